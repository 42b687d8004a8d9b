"""The policy bc on Slurm: a sweep over its seven checkpoints, and `watch` beside the script that trains it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.test_jobs import SLURM
from tests.toys import done, journal, points

METAWORLD = ("benchmark=metaworld", "run=s", *SLURM, "cluster.shards=2")
SHIPPED = (0, 30, 100, 300, 1000, 3000, 10000)
TRAINED = (0, 30, 1000)
SHORT = ("benchmark.tasks=[reach-v3,door-open-v3]", "benchmark.episodes_per_task=2", "benchmark.max_steps=150")


@pytest.fixture(scope="module")
def metaworld(cluster: Cluster) -> Path:
    """The user's environment of the benchmark."""
    done = cluster.vlaeval(cluster.home, "prepare", "benchmark=metaworld", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((cluster.home / ".cache/vlaeval_hpc/environments").glob("metaworld-*/bin/python"))


def whole(folder: Path) -> int:
    """How many runs have all their jobs submitted: the merge is the last."""
    return sum('"merge"' in path.read_text() for path in (folder / "results").glob("bc-*/jobs.json"))


def submissions(folder: Path) -> list[int]:
    """How often each run was submitted."""
    return [len(json.loads(path.read_text())["submissions"]) for path in (folder / "results").glob("bc-*/jobs.json")]


def test_a_sweep_over_the_checkpoints_that_are_shipped(cluster: Cluster, folder: Path, metaworld: Path) -> None:
    """Training helps, from nothing to nearly all; the last two are not told apart."""
    steps = f"model.checkpoint={','.join(map(str, SHIPPED))}"
    submitted = cluster.vlaeval(folder, *METAWORLD, steps, "benchmark.episodes_per_task=4", "-m")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    cluster.wait_for_jobs(folder / "results/sweeps/s", 600)
    found = points(folder, "s")
    assert [(p["step"], p["state"], p["n"]) for p in found.values()] == [(step, "done", 20) for step in SHIPPED]
    rates = [p["rate"] for p in found.values()]
    assert rates[0] == 0 and rates[0] < rates[2] < rates[-1] and rates[-1] >= 0.95
    assert all(p["low"] <= p["rate"] <= p["high"] for p in found.values())
    assert set(found["3000"]["letters"]) & set(found["10000"]["letters"])
    assert not set(found["0"]["letters"]) & set(found["10000"]["letters"])
    page = (folder / "results/sweeps/s/sweep.html").read_text()
    assert page.count('class="tag done"') == 7 and "were they equal" in page


def started(cluster: Cluster, folder: Path, name: str, command: list[str]) -> tuple[subprocess.Popen[str], int]:
    """A command of the user's that goes on, and its process's number."""
    script = f"cd {folder} && export PYTHONPATH={cluster.checkout} && echo $$ >{name}.pid && exec {shlex.join(command)}"
    whole = ["-c", f"{script} >{name}.log 2>&1"]
    mine = os.geteuid() == folder.stat().st_uid
    process = subprocess.Popen(["bash", *whole] if mine else ["runuser", "-l", cluster.user, *whole], text=True)
    pid = folder / f"{name}.pid"
    cluster.wait(lambda: pid.exists() and pid.read_text().strip(), 30, name)
    return process, int(pid.read_text())


def test_watch_beside_the_training(cluster: Cluster, folder: Path, metaworld: Path) -> None:
    """The training stands still until what it wrote is evaluated, so that this is surely while it runs. The watch is
    killed while its jobs are queued; started again it waits for these and submits none of them again."""
    (steps, script) = (",".join(map(str, TRAINED)), str(cluster.checkout / "scripts" / "train_bc.py"))
    cluster.output("mkdir ck", folder)
    train = [str(metaworld), script, "--out", "ck", "--episodes", "4", "--steps", steps]
    watch = [str(cluster.python), "-m", "vlaeval_hpc", "watch", "ck", "--every", "1", *METAWORLD, *SHORT]
    training, trainer = started(cluster, folder, "train", train)
    running = [training]
    try:
        cluster.wait((folder / "ck" / "step-000030.npz").exists, 240, "the second checkpoint")
        os.kill(trainer, signal.SIGSTOP)
        first, watcher = started(cluster, folder, "watch", watch)
        running.append(first)
        cluster.wait(lambda: whole(folder) == 2, 240, "two submissions")
        os.kill(watcher, signal.SIGKILL)
        first.wait(30)
        again, watcher = started(cluster, folder, "again", watch)
        running.append(again)
        cluster.wait(lambda: len(done(folder, "s")) == 2, 240, "the first two points")
        assert training.poll() is None and not (folder / "ck" / "step-001000.npz").exists()
        for pid in (training.pid, trainer):  # runuser stops itself where its child stops
            os.kill(pid, signal.SIGCONT)
        assert training.wait(240) == 0, (folder / "train.log").read_text()
        cluster.wait(lambda: len(done(folder, "s")) == 3, 240, "the third point")
        os.kill(watcher, signal.SIGINT)
        assert again.wait(60) == 0, (folder / "again.log").read_text()
    finally:
        for name in ("train", "watch", "again"):
            with contextlib.suppress(OSError):
                os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGKILL)
        for process in running:
            process.kill()
            process.wait()
    assert [(p["step"], p["state"], p["n"]) for p in points(folder, "s").values()] == [(s, "done", 4) for s in TRAINED]
    assert submissions(folder) == [1, 1, 1]
    for run in (folder / "results").glob("bc-*"):
        keys = [(line["task"], line["episode_id"]) for line in journal(folder, run.name)]
        assert len(keys) == len(set(keys)) == 4
