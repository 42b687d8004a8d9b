"""`watch`: a checkpoint is evaluated once, when it is complete, whoever writes what beside it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.conftest import ROOT, Command
from tests.results.made import made_plan, made_record, made_run, write_journal
from tests.toys import TOY, journal
from vlaeval_hpc.cli.watch import Watched, _Watch, signature
from vlaeval_hpc.config.sweep import CHECKPOINT
from vlaeval_hpc.launch.jobs import Job, Submission, record
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.results.sweep import Point, Points, SweepFolder

LIMIT = 120.0  # seconds; a machine that takes longer is broken


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "ck"
    found.mkdir()
    return found


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A watch of the folder `ck` that goes on until it is told to stop."""
    command = [sys.executable, "-m", "vlaeval_hpc", "watch", "ck", *TOY, "run=w", "--every", "0.2"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def points(tmp_path: Path) -> dict[str, Any]:
    try:
        found = json.loads((tmp_path / "results/sweeps/w/sweep.json").read_text())
    except FileNotFoundError:
        return {}
    return {p["label"]: p["state"] for p in found["points"]}


def wait(process: subprocess.Popen[str], tmp_path: Path, wanted: dict[str, str]) -> None:
    deadline = time.monotonic() + LIMIT
    while points(tmp_path) != wanted:
        assert process.poll() is None and time.monotonic() < deadline, (points(tmp_path), process.poll())
        time.sleep(0.1)


def test_each_once_when_it_is_complete(
    watching: subprocess.Popen[str], vlaeval: Command, tmp_path: Path, folder: Path
) -> None:
    output: list[str] = []
    assert watching.stdout is not None
    reader = threading.Thread(target=output.extend, args=[watching.stdout], daemon=True)
    reader.start()
    (folder / "step-20").write_text("20")
    wait(watching, tmp_path, {"step-20": "done"})
    (folder / ".step-100").write_text("100")
    (folder / ".step-100").rename(folder / "step-100")
    (folder / "last").symlink_to("step-100")
    (folder / ".step-300").write_text("hidden")
    (folder / "step-300.tmp").write_text("being written")
    wait(watching, tmp_path, {"step-20": "done", "step-100": "done"})
    refused = vlaeval("watch", "ck", *TOY, "run=w", "--until-idle", "1")
    assert refused.returncode == 2 and "is watched already" in refused.stderr
    watching.send_signal(signal.SIGINT)
    assert watching.wait(LIMIT) == 0
    reader.join(LIMIT)
    assert "stopped; the same again goes on" in output[-1]

    # Again, with what was evaluated and a new one: only that is run.
    (folder / "step-3").write_text("3")
    again = ("watch", "ck", *TOY, "run=w", "--every", "0.2", "--until-idle", "2")
    done = vlaeval(*again)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("6 episodes, 2 shards") == 1
    found = json.loads((tmp_path / "results/sweeps/w/sweep.json").read_text())
    assert [(p["label"], p["step"]) for p in found["points"]] == [("step-3", 3), ("step-20", 20), ("step-100", 100)]
    assert tries(tmp_path) == [6, 6, 6]  # none twice

    # One holds something else now and is another run, another was only touched.
    os.utime(folder / "step-3", (1e9, 1e9))
    (folder / "step-20").write_text("twenty")
    done = vlaeval(*again)
    assert done.returncode == 0 and done.stdout.count("6 episodes, 2 shards") == 1, done.stdout + done.stderr
    assert done.stdout.count("all were finished before") == 1 and tries(tmp_path) == [6, 6, 6, 6]
    new = json.loads((tmp_path / "results/sweeps/w/sweep.json").read_text())
    assert [p["run"] == q["run"] for p, q in zip(found["points"], new["points"], strict=True)] == [True, False, True]
    assert vlaeval(*again).stdout.count("episodes") == 0  # nobody even asks what they hold


def tries(tmp_path: Path) -> list[int]:
    """How many lines the journals of each run have."""
    return [len(journal(tmp_path, run.name)) for run in sorted((tmp_path / "results").glob("pilot*"))]


def test_a_submission_that_broke_off_is_cancelled_and_made_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever submitted died between the first job and the merge; one that is that far just now is left alone."""
    run = made_run(tmp_path / "r", made_plan(shards=1))
    sweep = SweepFolder(tmp_path / "results" / "sweeps" / "w")
    sweep.save(Points([CHECKPOINT], points=[Point("step-1", [], 1, sweep.link(run), content="c")]))
    active, cancelled = {"1": "RUNNING"}, []
    monkeypatch.setattr("vlaeval_hpc.launch.graph.active", lambda _: active)
    monkeypatch.setattr("vlaeval_hpc.launch.graph.cancel", lambda all: cancelled.append(len(all)) or ["1"])
    words = [*TOY, "run=w", f"results={tmp_path}/results"]
    watch = _Watch(Watched(folder, "*", None), words, Console(file=io.StringIO()))
    record(run, [Submission([Job("server", "1", [[0]])])])
    assert not watch._is_open("step-1", "c") and cancelled == []
    record(run, [Submission([Job("server", "1", [[0]])], submitted_at=time.time() - 100)])
    assert not watch._is_open("step-1", "c") and cancelled == [1]
    active.clear()
    assert watch._is_open("step-1", "c")
    # With a merge they will come to their end, and are shown when they have.
    active["1"] = "RUNNING"
    record(run, [Submission([Job("server", "1", [[0]]), Job("merge", "2", [[]])], submitted_at=0)])
    assert not watch._is_open("step-1", "c") and cancelled == [1]
    assert not watch._arrived() and not sweep.json.exists()
    write_journal(run, made_plan(1), 0, [made_record(item) for item in made_plan(1).items])
    merge_into_files(run)
    assert watch._arrived() and points(tmp_path) == {"step-1": "done"} and not watch._arrived()


def test_a_checkpoint_that_fails_ends_nothing(vlaeval: Command, tmp_path: Path, folder: Path) -> None:
    """One cannot be read, the other's server does not come up, the third is not ready; each is told."""
    (folder / "step-1").mkdir()
    (folder / "step-1" / "READY").touch()
    (folder / "step-2").write_text("2")
    (folder / "step-2READY").touch()
    (folder / "step-3").write_text("never ready")
    wrong = (*TOY, "run=w", "model.params.fault=load", "--ready", "READY", "--every", "0.1", "--until-idle", "1")
    done = vlaeval("watch", "ck", *wrong)
    assert done.returncode == 1, done.stdout + done.stderr
    assert points(tmp_path) == {"step-1": "failed", "step-2": "failed"}
    assert "error: step-1: " in done.stdout and "error: step-2: the policy did not load" in done.stdout


def test_one_that_is_being_written_is_not_complete(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "*", None)
    (tmp_path / "step-1").mkdir()
    looks = [signature(tmp_path / "step-1")]
    assert not watched.complete(tmp_path / "step-1", looks[0], looks[0])  # nothing in it yet
    for content in ("w", "we"):
        (tmp_path / "step-1" / "weights").write_text(content)
        looks.append(signature(tmp_path / "step-1"))
        assert not watched.complete(tmp_path / "step-1", looks[-1], looks[-2])
    os.utime(tmp_path / "step-1" / "weights", (1e9, 1e9))
    looks += [signature(tmp_path / "step-1"), signature(tmp_path / "step-1")]
    assert not watched.complete(tmp_path / "step-1", looks[-1], looks[2])
    assert watched.complete(tmp_path / "step-1", looks[-1], looks[-2])
    assert not watched.complete(tmp_path / "gone", signature(tmp_path / "gone"), signature(tmp_path / "gone"))


def test_what_is_a_checkpoint(tmp_path: Path) -> None:
    for name in ("100", "20"):
        (tmp_path / name / "pretrained_model").mkdir(parents=True)
    (tmp_path / "last").symlink_to("100")
    (tmp_path / "7").mkdir()
    watched = Watched(tmp_path, "*/pretrained_model", None)
    assert list(watched.there()) == ["20", "100"]
    assert list(Watched(tmp_path, "*", None).there()) == ["7", "20", "100"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["ck", "model.checkpoint=3"], "model.checkpoint= is what it finds in ck"),
        (["ck", "model=pilott"], "unknown model 'pilott'"),
        ([], "the following arguments are required: FOLDER"),
    ],
)
def test_refused_in_one_line(vlaeval: Command, folder: Path, arguments: list[str], words: str) -> None:
    done = vlaeval("watch", *arguments)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stdout + done.stderr
