"""The main job: a real policy on a real simulator, whatever way it is cut, killed and taken up again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Command
from tests.toys import journal, merged, outcomes

# A half-trained policy, so that there is something to get wrong: some of these episodes are won, some are lost.
SMALL = (
    "model.checkpoint=300",
    "benchmark.tasks=[reach-v3,push-v3]",
    "benchmark.episodes_per_task=4",
    "benchmark.max_steps=150",
)
Outcomes = dict[tuple[str, int], tuple[Any, ...]]


@pytest.fixture(scope="module")
def alone(metaworld_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of one shard."""
    folder = tmp_path_factory.mktemp("alone")
    command = [sys.executable, "-m", "vlaeval_hpc", *SMALL, "run=a", "cluster.shards=1"]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def expected(alone: Path) -> Outcomes:
    found = outcomes(merged(alone, "a"))
    assert len(found) == 8
    assert {dict(metrics)["success"] for metrics, _, _ in found.values()} == {True, False}
    return found


RECORDED = ("recording=video", "recording.steps=true", "recording.every=20", "recording.which=2")


@pytest.mark.parametrize(("shards", "more"), [(2, RECORDED), (5, ())])
def test_neither_shards_nor_recording_change_outcomes(
    vlaeval: Command, tmp_path: Path, expected: Outcomes, shards: int, more: tuple[str, ...]
) -> None:
    done = vlaeval(*SMALL, "run=a", f"cluster.shards={shards}", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    result = merged(tmp_path, "a")
    assert outcomes(result) == expected
    recorded = {e["video"] for task in result["tasks"] for e in task["episodes"] if "video" in e}
    assert len(recorded) == (4 if more else 0)
    assert all((tmp_path / "results" / "a" / video).stat().st_size > 1000 for video in recorded)


def test_killed_half_way_and_resumed(vlaeval: Command, tmp_path: Path, expected: Outcomes) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "vlaeval_hpc", *SMALL, "run=a"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "results" / "a" / "shards").is_dir() or len(journal(tmp_path, "a")) < 3:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = vlaeval(*SMALL, "run=a", "cluster.shards=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == expected
    assert len(journal(tmp_path, "a")) == 8


@pytest.fixture
def served(tmp_path: Path, alone: Path) -> Iterator[Path]:
    """The same run with its items shuffled, and a server started for it by hand."""
    plan = json.loads((alone / "results" / "a" / "plan.json").read_text())
    random.Random(5).shuffle(plan["items"])
    run = tmp_path / "results" / "a"
    for name in ("shards", "server", "logs"):
        (run / name).mkdir(parents=True)
    (run / "plan.json").write_text(json.dumps({**plan, "shards": 2}))
    (run / "config.yaml").write_text((alone / "results" / "a" / "config.yaml").read_text())
    server = subprocess.Popen(
        [sys.executable, "-m", "vlaeval_hpc", "serve", str(run)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline().startswith("ready ws://127.0.0.1:")
    yield run
    server.terminate()
    assert server.wait(10) == 0
    server.stdout.close()


def test_a_shuffled_order_by_hand(vlaeval: Command, tmp_path: Path, served: Path, expected: Outcomes) -> None:
    """`serve RUN`, `shard RUN`, `status RUN` and `merge RUN`, each as a person would type it."""
    for shard in (1, 0):
        done = vlaeval("shard", "results/a", "--shard-id", str(shard))
        assert done.returncode == 0, done.stdout + done.stderr
        status = json.loads(vlaeval("status", "results/a", "--json").stdout)
        assert status["completed"] == 4 * (2 - shard)
    done = vlaeval("merge", "results/a")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == expected
    assert (served / "merged.csv").read_text().count("\n") == 9


def test_a_sweep_shows_that_training_helped(vlaeval: Command, tmp_path: Path) -> None:
    done = vlaeval("model.checkpoint=0,10000", "benchmark.tasks=[reach-v3]", "benchmark.episodes_per_task=4", "-m")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("model.checkpoint"))
    assert lines[head + 1].startswith("0 ") and " 0.0 %" in lines[head + 1]
    assert lines[head + 2].startswith("10000 ") and "100.0 %" in lines[head + 2]
    runs = sorted(p.name for p in (tmp_path / "results").glob("bc-*"))
    assert [name.split("_")[0] for name in runs] == ["bc-0", "bc-10000"]


def test_a_server_that_is_there_already(vlaeval: Command, tmp_path: Path, expected: Outcomes) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "vlaeval_hpc", "serve", "model=bc", "model.checkpoint=300"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        url = server.stdout.readline().split()[1]
        done = vlaeval("run", "benchmark=metaworld", f"server.url={url}", "run=a", *SMALL[1:])
        assert done.returncode == 0, done.stdout + done.stderr
        assert outcomes(merged(tmp_path, "a")) == expected
        token = url.partition("token=")[2]
        told = [p for p in tmp_path.rglob("*") if p.is_file() and token in p.read_text(errors="replace")]
        assert [p.name for p in told] == ["rendezvous-0.json"]
        assert token not in done.stdout + done.stderr
        wrong = vlaeval(
            "benchmark=libero", f"server.url={url}", "benchmark.max_tasks=1", "benchmark.episodes_per_task=1"
        )
        assert wrong.returncode == 2
        assert "does not fit" in wrong.stderr and wrong.stderr.count("\n") == 1
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()
