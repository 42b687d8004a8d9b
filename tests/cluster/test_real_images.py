"""The real Apptainer, as the cluster's ordinary user: pulling, building, and what a process in a container has."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import tarfile
import uuid
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.cluster.conftest import BASE_IMAGE, REGISTRY, Cluster

LOCAL_BASE = {"BOOTSTRAP": "localimage", "BASE": str(BASE_IMAGE)}

ASK = """
import json, sys
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.images import known_image, ready_image
how, source, build_args = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
said = []
try:
    ready = how == "ready"
    found = ready_image(source, build_args, "sim", said.append) if ready else known_image(source, build_args, "sim")
    print(json.dumps({"image": found, "said": said}, default=str))
except ConfigurationError as error:
    print(json.dumps({"error": str(error), "said": said}, default=str))
"""

RUN = """
import json, os, subprocess, sys, tempfile
from pathlib import Path
from vlaeval_hpc.launch.apptainer import container_variables, exec_command
image, binds, variables, arguments = json.loads(sys.argv[1])
with tempfile.TemporaryDirectory() as scratch:
    line = exec_command(Path(image), arguments, binds=binds, scratch=Path(scratch))
    running = subprocess.Popen(line, env=container_variables(variables), stdout=subprocess.PIPE, text=True)
    first = running.stdout.readline()
    if len(sys.argv) > 2:
        running.send_signal(int(sys.argv[2]))
    rest = running.stdout.read()
    left = sorted(str(p.relative_to(scratch)) for p in Path(scratch).rglob("*") if p.is_file())
    print(json.dumps({"out": first + rest, "status": running.wait(), "left": left, "line": line}))
"""

INSIDE = """
import json, os, signal, sys, time
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(42))
open("/tmp/written", "w").close()
print(json.dumps({
    "environment": dict(os.environ), "home": os.path.expanduser("~"), "here": os.getcwd(),
    "processes": len([p for p in os.listdir("/proc") if p.isdigit()]),
    "sees": [p for p in sys.argv[1:] if os.path.exists(p)],
}), flush=True)
time.sleep(20)
"""

FRAMES = """
import numpy as np
from vlaeval_hpc.benchmarks.metaworld import MetaWorld
benchmark = MetaWorld(seed=0)
benchmark.select(["corner2", "state"])
benchmark.reset(benchmark.tasks()[0], 0)
frame = benchmark.observe()["images"]["corner2"]
print(frame.shape, frame.std() > 10)
"""


def ask(
    cluster: Cluster,
    folder: Path,
    how: str,
    source: str,
    build_args: dict[str, str],
    *,
    before: str = "",
    **variables: str,
) -> dict[str, Any]:
    """What ready_image() or known_image() says, with a cache of the test's own unless `variables` say another."""
    given = {"VLAEVAL_HPC_CACHE": str(folder / "it's a cache"), **variables}
    words = shlex.join([str(cluster.python), "-c", ASK, how, source, json.dumps(build_args)])
    found: dict[str, Any] = json.loads(cluster.output(f"{before} {words}", folder, 600, **given))
    return found


def execute(
    cluster: Cluster, folder: Path, image: Path, arguments: list[str], *more: str, **given: Any
) -> dict[str, Any]:
    """Run a command in an image; `more` is a signal that Apptainer gets after the first line."""
    question = json.dumps([str(image), given.get("binds", []), given.get("variables", {}), arguments])
    found = cluster.output(shlex.join([str(cluster.python), "-c", RUN, question, *more]), folder, SECRET="of the host")
    answer: dict[str, Any] = json.loads(found)
    return answer


def push(repository: str, content: bytes) -> str:
    """Put an image of one small file into the registry, as its `latest`; returns the manifest's digest."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo("content")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}}
    kind = "application/vnd.oci.image."
    parts = {f"{kind}config.v1+json": json.dumps(config).encode(), f"{kind}layer.v1.tar": layer.getvalue()}
    described = []
    for media_type, data in parts.items():
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = urlopen(Request(f"http://{REGISTRY}/v2/{repository}/blobs/uploads/", method="POST"))
        place = f"{begun.headers['Location']}&digest={digest}"
        urlopen(Request(place, data, {"Content-Type": "application/octet-stream"}, method="PUT")).close()
        described.append({"mediaType": media_type, "digest": digest, "size": len(data)})
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": f"{kind}manifest.v1+json",
        "config": described[0],
        "layers": described[1:],
    }).encode()  # fmt: skip
    headers = {"Content-Type": f"{kind}manifest.v1+json"}
    url = f"http://{REGISTRY}/v2/{repository}/manifests/latest"
    urlopen(Request(url, manifest, headers, method="PUT")).close()
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def test_a_tag_is_pulled_once_and_known_where_there_is_no_network(cluster: Cluster, folder: Path) -> None:
    repository = f"tests/{uuid.uuid4().hex}"
    source = f"docker://{REGISTRY}/{repository}:latest"
    first = push(repository, b"first")
    assert ask(cluster, folder, "known", source, {})["image"] is None
    pulled = ask(cluster, folder, "ready", source, {})
    path, _, digest = pulled["image"]
    assert digest == first and len(pulled["said"]) == 1
    # In a network namespace of its own not even the registry on this machine can be reached.
    offline = "unshare --map-root-user --net"
    assert ask(cluster, folder, "known", source, {}, before=offline) == {"image": pulled["image"], "said": []}
    again = ask(cluster, folder, "ready", source, {}, before=offline)
    assert again["image"] == pulled["image"] and "taking it as it was" in again["said"][0]
    pinned = f"docker://{REGISTRY}/{repository}@{first}"
    assert ask(cluster, folder, "ready", pinned, {}, before=offline)["image"][0] == path

    second = push(repository, b"second")
    moved = ask(cluster, folder, "ready", source, {})
    assert moved["image"][2] == second and "has moved on" in moved["said"][0]
    assert ask(cluster, folder, "known", source, {})["image"] == moved["image"]


def test_two_at_the_same_time_build_once(cluster: Cluster, folder: Path) -> None:
    definition = "Bootstrap: scratch\n\n%files\n    content /content\n"
    cluster.output(f"seq 100 >content && printf %s {shlex.quote(definition)} >x.def", folder)
    words = shlex.join([str(cluster.python), "-c", ASK, "ready", "x.def", "{}"])
    printed = cluster.output(f"{{ {words} & {words} & wait; }}", folder, VLAEVAL_HPC_CACHE=str(folder / "cache"))
    answers = [json.loads(line) for line in printed.splitlines()]
    assert not any("error" in answer for answer in answers), answers
    assert answers[0]["image"] == answers[1]["image"]
    built = [line for answer in answers for line in answer["said"] if line.startswith("building x.def")]
    assert len(built) == 1
    left = cluster.output("ls -A cache/images", folder).split()
    assert sorted(name.rpartition(".")[2] for name in left) == ["json", "log", "sif"]


@pytest.mark.parametrize(
    "source, told",
    [
        ("gone.sif", "No such file or directory: an Apptainer image (SIF) is needed"),
        ("text.sif", "no Apptainer image: valid: a SIF"),
        (f"docker://{REGISTRY}/tests/nothing:latest", "has no such image"),
        ("wrong.def", "wrong.def: cannot be built: "),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(cluster: Cluster, folder: Path, source: str, told: str) -> None:
    cluster.output("seq 100 >text.sif; printf 'Bootstrap: localimage\\nFrom: text.sif\\n' >wrong.def", folder)
    error = ask(cluster, folder, "ready", source, {})["error"]
    assert error.startswith("sim.environment.image: ") and told in error and "\n" not in error


@pytest.fixture(scope="session")
def metaworld(cluster: Cluster) -> Path:
    """metaworld.def on the base image, in the user's own cache: two minutes the first time."""
    words = shlex.join([str(cluster.python), "-c", ASK, "ready", "metaworld.def", json.dumps(LOCAL_BASE)])
    answer = json.loads(cluster.output(words, timeout=600))
    assert "error" not in answer, answer
    return Path(answer["image"][0])


def test_metaworld_renders_in_its_image(cluster: Cluster, folder: Path, metaworld: Path) -> None:
    known = ask(cluster, folder, "known", "metaworld.def", LOCAL_BASE, VLAEVAL_HPC_CACHE="")
    assert known["image"][0] == str(metaworld)
    for gl in ("osmesa", "egl"):
        found = execute(
            cluster,
            folder,
            metaworld,
            ["python3", "-c", FRAMES],
            binds=[f"{cluster.checkout}/vlaeval_hpc:/opt/vlaeval_hpc/vlaeval_hpc:ro"],
            variables={"PYTHONPATH": "/opt/vlaeval_hpc", "MUJOCO_GL": gl, "PYOPENGL_PLATFORM": gl},
        )
        assert (found["out"], found["status"]) == ("(256, 256, 3) True\n", 0)


def test_what_a_process_inside_has(cluster: Cluster, folder: Path, metaworld: Path) -> None:
    """Exactly what it was given, of files and variables; signals arrive, and so does its exit status."""
    secret = "a$HOME`id`\"'\\ b"
    odd = folder / "a,b:c"
    cluster.output(f"mkdir {shlex.quote(str(odd))}", folder)
    found = execute(
        cluster,
        folder,
        metaworld,
        ["python3", "-c", INSIDE, str(cluster.home), str(folder), str(odd), "/elsewhere"],
        "12",  # SIGUSR2
        binds=[str(odd), f"{cluster.checkout}:/elsewhere:ro"],
        variables={"VLAEVAL_HPC_TOKEN": secret},
    )
    inside = json.loads(found["out"])
    assert found["status"] == 42 and found["left"] == ["tmp/written"]
    environment = inside["environment"]
    assert environment["VLAEVAL_HPC_TOKEN"] == secret and secret not in " ".join(found["line"])
    assert "SECRET" not in environment and environment["PYTHONNOUSERSITE"] == "1"
    assert inside["home"] == inside["here"] == environment["HOME"] == "/tmp"
    assert inside["sees"] == [str(folder), str(odd), "/elsewhere"]  # `folder` as the bind's parent only
    assert inside["processes"] < 5
