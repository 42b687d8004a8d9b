"""Real LIBERO episodes through server, shards and merge, with every camera looked at once a chunk."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Command
from tests.toys import journal, merged, outcomes

SMALL = (
    "model=random",
    "benchmark=libero",
    "model.params.chunk=8",
    "model.params.observe=[agentview,wrist,state,language]",
    "benchmark.max_tasks=2",
    "benchmark.episodes_per_task=3",
    "benchmark.max_steps=20",
)
Outcomes = dict[tuple[str, int], tuple[Any, ...]]


def start(folder: Path, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vlaeval_hpc", *arguments]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **streams)


@pytest.fixture(scope="module")
def two_shards(libero_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of two shards."""
    folder = tmp_path_factory.mktemp("two")
    assert start(folder, *SMALL, "run=a", "cluster.shards=2").wait(400) == 0
    return folder


@pytest.fixture(scope="module")
def expected(two_shards: Path) -> Outcomes:
    found = outcomes(merged(two_shards, "a"))
    assert len(found) == 6
    assert {(steps, failure) for _, steps, failure in found.values()} == {(20, None)}
    return found


def test_one_shard_killed_half_way_and_resumed(vlaeval: Command, tmp_path: Path, expected: Outcomes) -> None:
    running = start(tmp_path, *SMALL, "run=a", "cluster.shards=1")
    deadline = time.monotonic() + 300
    while not (tmp_path / "results" / "a" / "shards").is_dir() or len(journal(tmp_path, "a")) < 2:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = vlaeval(*SMALL, "run=a", "cluster.shards=1", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == expected
    assert len(journal(tmp_path, "a")) == 6


def test_five_shards_in_a_shuffled_order(
    vlaeval: Command, tmp_path: Path, two_shards: Path, expected: Outcomes
) -> None:
    run = tmp_path / "results" / "a"
    for name in ("shards", "server", "logs"):
        (run / name).mkdir(parents=True)
    plan = json.loads((two_shards / "results" / "a" / "plan.json").read_text())
    random.Random(3).shuffle(plan["items"])
    (run / "plan.json").write_text(json.dumps({**plan, "shards": 5}))
    (run / "config.yaml").write_text((two_shards / "results" / "a" / "config.yaml").read_text())
    server = start(tmp_path, "serve", "results/a")
    shards = [start(tmp_path, "shard", "results/a", "--shard-id", str(i)) for i in range(5)]
    try:
        assert [shard.wait(400) for shard in shards] == [0] * 5
    finally:
        for process in [server, *shards]:
            process.terminate()
            process.wait(20)
    assert vlaeval("merge", "results/a").returncode == 0
    assert outcomes(merged(tmp_path, "a")) == expected
