"""Simulators in Apptainer containers in Slurm jobs: the same merged episodes as cluster=local without any of both."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.cluster.conftest import BASE_IMAGE, REGISTRY, Cluster
from tests.cluster.test_jobs import SLURM, Outcomes, keys, toy
from tests.toys import merged, outcomes

IN_CONTAINERS = (
    *(a for a in SLURM if not a.startswith("container=")),
    "+benchmark.environment.build_args.BOOTSTRAP=localimage",
    f"+benchmark.environment.build_args.BASE={BASE_IMAGE}",
)
METAWORLD = ("model=bc", "benchmark=metaworld", "benchmark.tasks=[reach-v3,push-v3]", "benchmark.episodes_per_task=3")
LIBERO = (
    "model=random",
    "benchmark=libero",
    "model.params.chunk=8",
    "model.params.observe=[agentview,wrist,state,language]",
    "benchmark.max_tasks=1",
    "benchmark.episodes_per_task=2",
    "benchmark.max_steps=20",
)


def evaluate(cluster: Cluster, folder: Path, *arguments: str, timeout: float = 900) -> None:
    done = cluster.vlaeval(folder, *arguments, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr


def result(cluster: Cluster, folder: Path, *arguments: str) -> Outcomes:
    """What a submitted evaluation comes to."""
    evaluate(cluster, folder, *arguments)
    run = folder / "results" / "a"
    cluster.wait_for_jobs(run, 300)
    found = merged(folder, "a")
    assert "partial" not in found, (run / "logs" / "merge.log").read_text()
    return outcomes(found)


def test_metaworld_in_containers(cluster: Cluster, folder: Path) -> None:
    found = result(cluster, folder, *METAWORLD, *IN_CONTAINERS, "run=a", "cluster.shards=2")
    assert len(found) == 6 and sum(dict(metrics)["success"] for metrics, _, _ in found.values()) >= 5
    provenance = json.loads((folder / "results" / "a" / "provenance.json").read_text())
    assert re.fullmatch(r"(sha256:)?[0-9a-f]{64}", provenance["environments"]["benchmark"]["digest"])
    # cluster=local without a container: an environment made from the same requirements.
    evaluate(cluster, folder, *METAWORLD, "run=b", "cluster.shards=1")
    assert outcomes(merged(folder, "b")) == found


def test_a_sweep_of_three_checkpoints(cluster: Cluster, folder: Path) -> None:
    """The prompt is back with nine jobs queued; what was learned shows in the rates."""
    few = ("benchmark.tasks=[push-v3,door-open-v3]", "benchmark.episodes_per_task=3", "cluster.shards=2")
    done = cluster.vlaeval(folder, "model=bc", "model.checkpoint=0,100,3000", "-m", *few, *IN_CONTAINERS, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("submitted: server ") == 3
    rates = []
    for step in (0, 100, 3000):
        run = next((folder / "results").glob(f"bc-{step}_metaworld*"))
        cluster.wait_for_jobs(run, 300)
        found = merged(folder, run.name)
        assert "partial" not in found and found["num_errors"] == 0
        rates.append(found["mean_success"])
    assert rates[0] == 0.0 and rates == sorted(rates) and rates[2] >= 0.8


def test_libero_in_containers(cluster: Cluster, folder: Path) -> None:
    """Rendered by Mesa inside; the steps and the outcome are those of a local container, and of another split."""
    found = result(cluster, folder, *LIBERO, *IN_CONTAINERS, "run=a", "cluster.shards=2", "cluster.shard.mem=4G")
    assert {(steps, failure) for _, steps, failure in found.values()} == {(20, None)}
    local = (*LIBERO, "container=apptainer", *IN_CONTAINERS[-2:], "run=b", "cluster.shards=1")
    evaluate(cluster, folder, *local)
    assert outcomes(merged(folder, "b")) == found


VLA_EVAL = """
Bootstrap: localimage
From: {libero}
%post
    python3 -m pip install --break-system-packages --no-cache-dir --root-user-action=ignore vla-eval==0.8.0
    # Its LIBERO wraps torch.load, for initial states that are plain arrays here.
    place=$(python3 -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    echo 'def load(*arguments, **named): raise NotImplementedError' >"$place/torch.py"
"""


def test_a_class_of_vla_eval_s_in_its_image(cluster: Cluster, folder: Path) -> None:
    """vla-eval 0.8.0 installed beside LIBERO: its class runs behind our worker, under Slurm, from its YAML."""
    done = cluster.vlaeval(cluster.home, "prepare", *LIBERO, *IN_CONTAINERS, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    libero = re.findall(r"^benchmark: (\S+\.sif) \(sha256:", done.stdout, re.MULTILINE)[-1]
    yaml = (
        "benchmarks:\n"
        "  - benchmark: vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark\n"
        "    params: {suite: libero_spatial, seed: 7, send_wrist_image: true, send_state: true}\n"
    )
    for name, text in (("vla_eval.def", VLA_EVAL.format(libero=libero)), ("libero.yaml", yaml)):
        cluster.output(f"printf %s {shlex.quote(text)} >{name}", folder)
    found = result(
        cluster,
        folder,
        *("model=random", "model.params.chunk=8", "model.params.dim=7", "model.params.observe=[agentview,language]"),
        *("benchmark=vla_eval", "benchmark.params.config=libero.yaml", "benchmark.environment.image=vla_eval.def"),
        *("benchmark.max_tasks=1", "benchmark.episodes_per_task=2", "benchmark.max_steps=20"),
        *(a for a in IN_CONTAINERS if "build_args" not in a),
        *("run=a", "cluster.shards=2", "cluster.shard.mem=4G"),
    )
    assert {(steps, failure) for _, steps, failure in found.values()} == {(20, None)}


def test_the_policy_in_an_image_too(cluster: Cluster, folder: Path) -> None:
    image = (
        "model.environment.kind=image",
        "+model.environment.build_args.BOOTSTRAP=localimage",
        f"+model.environment.build_args.BASE={BASE_IMAGE}",
    )
    small = ("benchmark.tasks=[reach-v3]", "benchmark.episodes_per_task=2", "cluster.shards=1")
    found = result(cluster, folder, *METAWORLD[:2], *small, *IN_CONTAINERS, *image, "run=a")
    assert len(found) == 2 and all(failure is None for _, _, failure in found.values())


def toy_in(cluster: Cluster, image: str, *more: str) -> list[str]:
    """The doubles, the simulator's in an image: the tests' folder is bound, since the image has nothing of it."""
    binds = f"benchmark.environment.binds=[{cluster.checkout / 'tests'}]"
    return [*toy(cluster), "container=apptainer", binds, f"benchmark.environment.image={image}", *more]


@pytest.fixture(scope="module")
def worker_image(cluster: Cluster) -> str:
    """The worker base, built from the registry's base, and its SIF's path."""
    base = f"{{BASE: {REGISTRY}/bookworm-python3:latest}}"
    arguments = toy_in(cluster, "worker.def", f"+benchmark.environment.build_args={base}")
    done = cluster.vlaeval(cluster.home, "prepare", *arguments, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^benchmark: (\S+\.sif) \(sha256:", done.stdout, re.MULTILINE)[-1]


def test_an_image_from_a_registry(cluster: Cluster, folder: Path, worker_image: str) -> None:
    """Pulled once by the command, pinned by its digest, used by every task."""
    place = f"docker://{REGISTRY}/tests/worker:latest"
    cluster.output(f"skopeo copy --quiet --dest-tls-verify=false sif:{worker_image} {place}", folder)
    found = result(cluster, folder, *toy_in(cluster, place))
    assert len(found) == 6 and all(failure is None for _, _, failure in found.values())
    environment = json.loads((folder / "results" / "a" / "provenance.json").read_text())["environments"]["benchmark"]
    assert environment["source"] == place
    told = json.loads(cluster.output(f"skopeo inspect --tls-verify=false {place}", folder))
    assert environment["digest"] == told["Digest"]


def test_the_time_limits_warning_reaches_the_worker_inside(cluster: Cluster, folder: Path, worker_image: str) -> None:
    limit = ("cluster.shard.time='2:00'", "+cluster.shard.signal='B:USR2@75'")
    slow = ("benchmark.params.pace=3.5", "benchmark.tasks=[task-0]", "cluster.shards=1")
    found = result(cluster, folder, *toy_in(cluster, worker_image, *limit, *slow))
    assert len(found) == 3 and {failure for _, _, failure in found.values()} == {None}
    log = (folder / "results" / "a" / "logs" / "shard-0.log").read_text()
    assert "SIGUSR2: leaving" in log and log.count("] task-0 episode") == 3, log  # nothing was run twice
    assert "must be installed" not in log, log  # Python's complaint when its container's file system is gone
    jobs = "".join(p.read_text() for p in (folder / "results" / "a" / "jobs").glob("*_log.out"))
    assert "back into the queue (1 of 10 times)" in jobs


def test_killed_here_and_taken_up_again(cluster: Cluster, folder: Path, worker_image: str) -> None:
    """cluster=local in containers: kill -9 of a container, then of everything; nobody waits for a dead owner's lock.

    And an image without ffmpeg records videos: one for each episode, whole, and nothing beside them.
    """
    arguments = [a for a in toy_in(cluster, worker_image, "benchmark.params.pace=0.3") if a not in SLURM]
    arguments += ["cluster.shards=1", "recording=video", "benchmark.observe=[front,state]"]
    words = shlex.join([str(cluster.python), "-m", "vlaeval_hpc", *arguments])
    cluster.output(f"{{ {words} & echo $! >pid; }} >first.log 2>&1", folder)
    cluster.wait(lambda: len(keys(folder)) >= 1, 60, "a first episode")
    cluster.output("pkill -9 -u $USER -f '[r]untime parent: worker-'")
    cluster.wait(lambda: len(keys(folder)) >= 3, 60, "more episodes")
    cluster.output("kill -9 $(cat pid)", folder)
    assert "started again" not in (folder / "first.log").read_text()  # it is told at the end, which never came
    done = cluster.vlaeval(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(keys(folder)) == len(set(keys(folder))) == 6
    run = folder / "results" / "a"
    recorded = {e["video"] for task in json.loads((run / "merged.json").read_text())["tasks"] for e in task["episodes"]}
    assert len(recorded) == 6
    assert {p.relative_to(run).as_posix() for p in (run / "videos").rglob("*") if p.is_file()} == recorded


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("/no/such.sif", ["/no/such.sif"]),
        ("{folder}/results-are-no-image.sif", ["results-are-no-image.sif", "SIF"]),
        ("nowhere.def", ["nowhere.def", "metaworld.def"]),
    ],
)
def test_an_image_that_is_none_is_refused(cluster: Cluster, folder: Path, image: str, words: list[str]) -> None:
    cluster.output("echo text >results-are-no-image.sif", folder)
    image = f"benchmark.environment.image={image.format(folder=folder)}"
    done = cluster.vlaeval(folder, *METAWORLD, *IN_CONTAINERS, "cluster.shards=1", image)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert not (folder / "results").exists()
