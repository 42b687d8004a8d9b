"""`watch` beside a real training: scripts/train_bc.py writes, each checkpoint is evaluated once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.toys import done, journal, points

PATIENCE = 240.0  # seconds; a machine that takes longer is broken
STEPS = (0, 30, 1000)
WATCH = (
    "watch",
    "ck",
    "run=w",
    "benchmark.tasks=[reach-v3,door-open-v3]",
    "benchmark.episodes_per_task=2",
    "benchmark.max_steps=150",
    "--every=1",
)


@pytest.fixture
def training(metaworld_python: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The training script on few demonstrations."""
    (tmp_path / "ck").mkdir()
    script = ROOT / "scripts" / "train_bc.py"
    steps = ",".join(map(str, STEPS))
    process = subprocess.Popen(
        [str(metaworld_python), str(script), "--out", str(tmp_path / "ck"), "--episodes", "4", "--steps", steps],
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.kill()
    process.wait()


def watching(tmp_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vlaeval_hpc", *WATCH]
    return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)


def wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


def test_each_checkpoint_once_while_the_training_writes(training: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """The training stands still between two checkpoints until what it wrote is evaluated, so that this is surely while
    it runs; the watch is killed once and started again."""
    watch = watching(tmp_path)
    try:
        wait((tmp_path / "ck" / "step-000030.npz").exists, "the second checkpoint")
        training.send_signal(signal.SIGSTOP)
        wait(lambda: "step-000000.npz" in done(tmp_path, "w"), "the first point")
    finally:
        os.killpg(watch.pid, signal.SIGKILL)
        watch.wait()
    assert training.poll() is None and not (tmp_path / "ck" / "step-001000.npz").exists()
    again = watching(tmp_path)
    try:
        wait(lambda: len(done(tmp_path, "w")) == 2, "the second point")
        training.send_signal(signal.SIGCONT)
        assert training.wait(PATIENCE) == 0
        wait(lambda: len(done(tmp_path, "w")) == 3, "the third point")
        again.send_signal(signal.SIGINT)
        assert again.wait(PATIENCE) == 0
    finally:
        if again.poll() is None:
            os.killpg(again.pid, signal.SIGKILL)
            again.wait()
    found = points(tmp_path, "w")
    assert [(p["step"], p["state"], p["n"]) for p in found.values()] == [(step, "done", 4) for step in STEPS]
    rates = [point["rate"] for point in found.values()]
    assert rates[0] == 0 and rates[-1] > 0
    runs = [run.name for run in (tmp_path / "results").glob("bc-*")]
    assert len(runs) == 3
    for name in runs:
        keys = [(line["task"], line["episode_id"]) for line in journal(tmp_path, name)]
        assert len(keys) == len(set(keys)) == 4  # none twice, across the restart
