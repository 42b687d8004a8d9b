"""The real huggingface_hub against a small hub on this machine. Each look is a process: it reads its variables once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.launch.hub import Hub, serving
from vlaeval_hpc.launch.checkpoints import Checkpoint, ready_checkpoint

ASK = """
import json, sys
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.checkpoints import ready_checkpoint
said = []
try:
    found = ready_checkpoint(sys.argv[1], said.append)
    print(json.dumps({"checkpoint": found, "said": said}))
except ConfigurationError as error:
    print(json.dumps({"error": str(error), "said": said}))
"""
NOWHERE = "http://127.0.0.1:9"  # nobody listens on the discard port
FILES = {"config.json": b"{}", "steps/100/model.bin": b"a" * 3000, "steps/200/model.bin": b"b" * 5000}

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    with serving(hub):
        yield hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLAEVAL_HPC_CACHE", str(tmp_path / "it's a cache"))
    return tmp_path / "it's a cache"


@pytest.fixture
def ask(hub: Hub, cache: Path, tmp_path: Path) -> Ask:
    """Asks for a checkpoint in a fresh process."""

    def ask(checkpoint: str, **variables: str) -> dict[str, Any]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        ours = {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*"}
        done = subprocess.run(
            [sys.executable, "-c", ASK, checkpoint],
            env={**kept, **ours, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert "\n" not in answer.get("error", "")
        return answer

    return ask


def contents(folder: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_downloaded_once_then_without_network(hub: Hub, ask: Ask) -> None:
    commit = hub.commit(FILES)
    first = ask("hf://lab/tiny")
    value, source, revision = first["checkpoint"]
    assert (source, revision) == ("hf://lab/tiny", commit)
    assert contents(value) == FILES
    assert len(first["said"]) == 1 and "downloading" in first["said"][0]
    assert not any(p.is_symlink() for p in Path(value).rglob("*"))  # a container gets this folder and no other
    hub.asked.clear()
    assert ask("hf://lab/tiny") == {"checkpoint": [value, source, revision], "said": []}
    assert len([line for line in hub.asked if "lab/tiny" in line]) == 1, hub.asked
    assert ask("hf://lab/tiny", HF_ENDPOINT=NOWHERE)["checkpoint"] == first["checkpoint"]


@pytest.mark.parametrize("offline", [{"HF_ENDPOINT": NOWHERE}, {"HF_HUB_OFFLINE": "1"}], ids=str)
def test_without_network_a_branch_is_what_it_was(hub: Hub, ask: Ask, offline: dict[str, str]) -> None:
    before = hub.commit(FILES)
    first = ask("hf://lab/tiny@main")["checkpoint"]
    hub.commit({"config.json": b"new"})
    again = ask("hf://lab/tiny@main", **offline)
    assert again["checkpoint"] == first
    assert "as it was" in again["said"][0] and before[:12] in again["said"][0]
    error = ask("hf://lab/tiny@other", **offline)["error"]
    assert "model.checkpoint=hf://lab/tiny@other" in error and "not downloaded before" in error


def test_a_branch_that_moved_is_downloaded_anew_and_a_commit_stays(hub: Hub, ask: Ask) -> None:
    before = hub.commit(FILES)
    old = ask("hf://lab/tiny")["checkpoint"]
    after = hub.commit({"config.json": b"new"})
    new = ask("hf://lab/tiny")["checkpoint"]
    assert new[2] == after != before and contents(new[0]) == {"config.json": b"new"}
    assert ask(f"hf://lab/tiny@{before}", HF_ENDPOINT=NOWHERE)["checkpoint"][0] == old[0]
    assert ask("hf://lab/tiny", HF_ENDPOINT=NOWHERE)["checkpoint"][2] == after


def test_of_a_path_nothing_else_is_fetched(hub: Hub, ask: Ask) -> None:
    hub.commit(FILES, "refs/pr/1")
    value = ask("hf://lab/tiny@refs/pr/1/steps/100")["checkpoint"][0]
    assert contents(value) == {"model.bin": FILES["steps/100/model.bin"]}
    assert not any("steps/200" in line for line in hub.asked)
    file = ask("hf://lab/tiny@refs/pr/1/steps/200/model.bin")["checkpoint"][0]
    assert Path(file).read_bytes() == FILES["steps/200/model.bin"]
    assert ask("hf://lab/tiny@refs/pr/1/steps/200/model.bin", HF_ENDPOINT=NOWHERE)["checkpoint"][0] == file
    error = ask("hf://lab/tiny@refs/pr/1/steps/300")["error"]
    assert "no 'steps/300'" in error and "config.json, steps" in error


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("hf://lab/nothing", ["lab/nothing", "HF_TOKEN", "hf://ORG/NAME"]),
        ("hf://lab/tiny@v9", ["lab/tiny has no revision 'v9'", "a tag"]),
        ("hf://tiny", ["hf://ORG/NAME"]),
        ("hf://lab/tiny@", ["hf://ORG/NAME"]),
        ("hf://lab/tiny/../../x", ["hf://ORG/NAME"]),
        ("hf://lab/..", ["hf://ORG/NAME"]),
    ],
)
def test_what_is_wrong_is_told(hub: Hub, ask: Ask, cache: Path, checkpoint: str, words: list[str]) -> None:
    hub.commit(FILES)
    error = ask(checkpoint)["error"]
    assert all(word in error for word in [f"model.checkpoint={checkpoint}", *words]), error
    assert not list(cache.rglob("*.bin"))


def test_a_token_opens_a_closed_repository(hub: Hub, ask: Ask) -> None:
    hub.commit(FILES)
    hub.token = "hf_secret"
    assert "HF_TOKEN" in ask("hf://lab/tiny")["error"]
    assert "checkpoint" in ask("hf://lab/tiny", HF_TOKEN="hf_secret")
    hub.gated = True
    hub.commit({"other.bin": b"x"})
    assert "gated" in ask("hf://lab/tiny", HF_TOKEN="hf_secret")["error"]


def test_a_download_that_breaks_off_leaves_nothing_half_done_and_goes_on(hub: Hub, ask: Ask) -> None:
    hub.commit({"a.bin": b"a" * 1000, "z.bin": b"z" * (4 << 20)})
    hub.broken = "z.bin"
    error = ask("hf://lab/tiny")["error"]
    assert "model.checkpoint=hf://lab/tiny: the download broke off" in error
    assert "not downloaded before" in ask("hf://lab/tiny", HF_ENDPOINT=NOWHERE)["error"]
    hub.broken = None
    hub.asked.clear()
    value = ask("hf://lab/tiny")["checkpoint"][0]
    assert contents(value) == hub.commits[hub.refs["main"]]
    assert "GET /lab/tiny/resolve/" not in " ".join(line for line in hub.asked if "a.bin" in line)
    assert [p.name for p in Path(value).parent.iterdir() if ".partial" in p.name] == []


def test_two_processes_download_once(hub: Hub, ask: Ask, cache: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    hub.commit(FILES)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: ask("hf://lab/tiny")["checkpoint"], range(2)))
    assert found[0] == found[1] and contents(found[0][0]) == FILES
    assert len([line for line in hub.asked if line.startswith("GET /lab") and "config.json" in line]) == 1
    assert not list(cache.rglob("*.lock"))


def test_a_path_that_is_there_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b").mkdir()
    (tmp_path / "300").touch()

    def ready(checkpoint: Any) -> Checkpoint:
        return ready_checkpoint(checkpoint, pytest.fail)

    assert ready("a b") == ready("~/a b") == Checkpoint(str(tmp_path / "a b"))
    for other in ("300", 300, None, "lerobot/act", "/no/such", ["a b"], "", 0.5):
        assert ready(other) == Checkpoint(other)
