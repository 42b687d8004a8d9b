"""The real registry client against the double of test_apptainer.py, and an apptainer that writes what a SIF begins
with; tests/cluster/test_images.py has the real one."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import benchmark_environment
from tests.launch.test_apptainer import Registry, programs, put, registry
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.environment import WIRE
from vlaeval_hpc.launch.images import containers_folder, known_image, ready_image

__all__ = ["programs", "registry"]

APPTAINER = """
import os, sys, time
if sys.argv[1] == "--version":
    print("apptainer version 9.1")
    sys.exit()
print("ERROR: no luck")
time.sleep(0.2)
with open(os.path.join(os.path.dirname(__file__), "lines"), "a") as lines:
    print(*sys.argv[2:], file=lines)
if os.environ.get("FAILS"):
    sys.exit(1)
with open(sys.argv[-2], "wb") as image:
    image.write(bytes(32) + b"SIF_MAGIC" + bytes(7) + sys.argv[-1].encode())
"""
DEFINITION = """Bootstrap: {{ BOOTSTRAP }}
From: {{ BASE }}

%arguments
    BOOTSTRAP=docker
    BASE=python:3.11-slim-bookworm

%post
    true
"""


@pytest.fixture
def folder(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a working folder with x.def, and an Apptainer."""
    put(programs, "apptainer", APPTAINER)
    monkeypatch.setenv("VLAEVAL_HPC_CACHE", str(tmp_path / "it's a cache"))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "x.def").write_text(DEFINITION)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def lines(folder: Path) -> list[str]:
    """What apptainer was asked to make."""
    path = folder / "programs" / "lines"
    return path.read_text().splitlines() if path.exists() else []


def sif(path: Path, content: bytes = b"") -> Path:
    path.write_bytes(bytes(32) + b"SIF_MAGIC" + content)
    return path


def nothing(line: str) -> None:
    raise AssertionError(line)


def test_a_definition_is_built_once_whoever_asks(folder: Path) -> None:
    assert known_image("x.def", {}, "sim") is None
    heard: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: ready_image("x.def", {}, "sim", heard.append), range(4)))
    assert len(found) == 1 and len(lines(folder)) == 1
    assert len([line for line in heard if line.startswith("building x.def for sim (once): ")]) == 1
    image = found.pop()
    assert image.path.parent == folder / "it's a cache" / "images"
    assert image.path.name == f"x-{image.digest.removeprefix('sha256:')[:12]}.sif"
    assert image == known_image("x.def", {}, "other") == ready_image("x.def", {}, "other", nothing)
    told = json.loads(image.path.with_suffix(".json").read_text())
    assert {k: told[k] for k in ("source", "digest", "apptainer")} == {
        "source": "x.def",
        "digest": image.digest,
        "apptainer": "apptainer version 9.1",
    }


def test_a_build_that_fails_leaves_its_log_and_no_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(
        ConfigurationError, match=r"sim.environment.image: .*x.def: .*no luck.* is in .*\.log"
    ) as caught:
        ready_image("x.def", {}, "sim", lambda line: None)
    assert "\n" not in str(caught.value)
    assert known_image("x.def", {}, "sim") is None
    monkeypatch.delenv("FAILS")
    ready_image("x.def", {}, "sim", lambda line: None)
    assert known_image("x.def", {}, "sim")


def test_content_names_what_was_built(folder: Path) -> None:
    def named(**build_args: str) -> str:
        return ready_image("x.def", build_args, "sim", lambda line: None).digest

    definition = folder / "work" / "x.def"
    first = named()
    assert named(BASE="other") != first
    base = sif(folder / "work" / "base.sif")
    local = named(BOOTSTRAP="localimage", BASE="base.sif")
    os.utime(base, (1, 1))
    assert named(BOOTSTRAP="localimage", BASE=str(base)) != local  # the words count
    assert named(BOOTSTRAP="localimage", BASE="base.sif") == local  # the time does not
    sif(base, b"new")
    assert named(BOOTSTRAP="localimage", BASE="base.sif") != local
    definition.write_text(DEFINITION.replace("true", "false"))
    assert named() != first
    definition.write_text(DEFINITION)
    assert named() == first


def test_a_local_base_that_is_missing(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"x\.def: it builds on .*gone\.sif, which is not there"):
        known_image("x.def", {"BOOTSTRAP": "localimage", "BASE": "gone.sif"}, "sim")


def test_a_sif_is_taken_as_it_is(folder: Path) -> None:
    path = sif(folder / "work" / "mine.sif")
    image = ready_image("mine.sif", {}, "sim", nothing)
    assert image == known_image("mine.sif", {}, "sim") == (path, "mine.sif", image.digest)
    assert image.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    sif(path, b"new")
    assert ready_image("mine.sif", {}, "sim", nothing).digest != image.digest
    assert lines(folder) == []


def test_what_is_no_image_is_told_in_one_line(folder: Path) -> None:
    (folder / "work" / "text.sif").write_text("x" * 100)
    for source, told in {
        "gone.sif": r"sim\.environment\.image: /.*/work/gone\.sif: No such file or directory: an Apptainer image",
        "text.sif": r"text\.sif: no Apptainer image: valid: a SIF",
        "gone.def": r"gone\.def: no such file: valid: a path, or of ours .*metaworld\.def",
        "library://x": r"library://x: valid: a \.sif, a \.def, docker://\.\.\.",
        "docker://A B": r"docker://A B: valid: docker://",
    }.items():
        for call in (lambda s: ready_image(s, {}, "sim", nothing), lambda s: known_image(s, {}, "sim")):
            with pytest.raises(ConfigurationError, match=told) as caught:
                call(source)
            assert "\n" not in str(caught.value)


def test_a_tag_is_pulled_by_its_digest_and_known_offline(folder: Path, registry: Registry) -> None:
    source = f"docker://{registry.address}/lab/sim"
    assert known_image(source, {}, "sim") is None
    heard: list[str] = []
    image = ready_image(source, {}, "sim", heard.append)
    assert image.digest == registry.digest and image.source == source
    assert lines(folder)[0].endswith(f" docker://{registry.address}/lab/sim@{registry.digest}")
    assert [line.split(":")[0] for line in heard] == ["pulling docker"]
    assert ready_image(source, {}, "sim", nothing) == image
    asked = len(registry.asked)
    assert known_image(source, {}, "sim") == image and len(registry.asked) == asked
    registry.status = 503
    assert ready_image(source, {}, "sim", heard.append) == image
    assert heard[-1].endswith(f"answers 503 Service Unavailable: taking it as it was, {registry.digest[:19]}")
    with pytest.raises(ConfigurationError, match=r"answers 503 .*: and it was not pulled before"):
        ready_image(f"{source}:other", {}, "sim", nothing)


def test_a_tag_that_has_moved_on_is_pulled_anew_and_said(folder: Path, registry: Registry) -> None:
    source = f"docker://{registry.address}/lab/sim"
    first = ready_image(source, {}, "sim", lambda line: None)
    registry.manifest = b"[]"
    heard: list[str] = []
    second = ready_image(source, {}, "sim", heard.append)
    assert heard[0] == f"{source} has moved on: it was {first.digest[:19]}, and is {second.digest[:19]}"
    assert second.digest == registry.digest and second.path != first.path and first.path.exists()
    assert known_image(source, {}, "sim") == second


def test_a_digest_is_never_looked_up(folder: Path, registry: Registry) -> None:
    source = f"docker://{registry.address}/lab/sim:v1@{registry.digest}"
    image = ready_image(source, {}, "sim", lambda line: None)
    assert image.digest == registry.digest and registry.asked == []
    assert known_image(source, {}, "sim") == image == ready_image(source, {}, "sim", nothing)


def installed(name: str) -> list[str]:
    """What a definition of ours installs by pip."""
    text = (containers_folder() / f"{name}.def").read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if "pip install" in line)
    words = shlex.split(line)
    return [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]


@pytest.mark.parametrize("benchmark", ["metaworld", "libero", "libero_pro"])
def test_an_image_holds_what_the_environment_does(benchmark: str) -> None:
    environment = benchmark_environment(benchmark)
    assert environment.image is not None
    wire = [word for word in WIRE if word not in {r.partition("=")[0] for r in environment.requirements}]
    assert installed(environment.image.removesuffix(".def")) == [*environment.requirements, *wire]


@pytest.mark.parametrize("name", ["worker", "policy"])
def test_a_plain_image_holds_what_the_wire_needs(name: str) -> None:
    assert installed(name) == list(WIRE)
