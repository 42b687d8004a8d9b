"""Recorded episodes as a dataset that LeRobot itself loads."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Command
from tests.policies.conftest import TORCH_CPU
from tests.toys import TOY, merged

CHECKS = Path(__file__).with_name("dataset_checks.py")
RECORDED = (
    "recording=video",
    "recording.steps=true",
    "recording.fps=10",
    "benchmark.observe=[front,state]",
    "benchmark.episodes_per_task=2",
)


def test_lerobot_loads_it(vlaeval: Command, tmp_path: Path, lerobot_python: Path) -> None:
    assert vlaeval(*TOY, *RECORDED, "run=r").returncode == 0
    done = vlaeval("export", "results/r", "-o", "data/set")
    assert done.returncode == 0 and done.stdout == "4 episodes in data/set\n", done.stderr
    folder = tmp_path / "data" / "set"
    read = subprocess.run(
        [str(lerobot_python), str(CHECKS), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(TORCH_CPU), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
    )
    assert read.returncode == 0, read.stderr[-4000:]
    found: dict[str, Any] = json.loads(read.stdout.splitlines()[-1])
    episodes = [e for task in merged(tmp_path, "r")["tasks"] for e in task["episodes"]]
    assert found["version"] == "v3.0" and found["fps"] == 10
    assert found["lengths"] == [e["steps"] for e in episodes] and found["frames"] == sum(found["lengths"])
    assert found["tasks"] == ["task-0", "task-1"]
    assert found["features"]["observation.images.front"] == ["video", [8, 8, 3]]
    assert found["features"]["action"] == ["float32", [2]]
    steps = f"{tmp_path}/results/r/steps/*/*.parquet"
    rows = duckdb.sql(f"SELECT step, action::FLOAT[], state::FLOAT[] FROM '{steps}' ORDER BY task, episode, step")
    assert [row[1:] for row in found["rows"]] == [list(row) for row in rows.fetchall()]
    # The toy's frames are as bright as their step: the picture before the last action.
    last = found["item"]
    assert last["task"] == "task-1" and last["action"] == [2, 2]
    assert last["pixels"]["observation.images.front"] == [
        [3, 8, 8],
        pytest.approx((episodes[-1]["steps"] - 1) / 255, abs=0.01),
    ]


def test_what_cannot_be_exported(vlaeval: Command, tmp_path: Path) -> None:
    few = ("benchmark.episodes_per_task=1", "benchmark.max_tasks=1")
    assert vlaeval(*TOY, *RECORDED, *few, "run=r", "recording.every=2").returncode == 0
    assert vlaeval(*TOY, *few, "run=plain").returncode == 0
    (tmp_path / "there").mkdir()
    for words, said in (
        (("results/r", "-o", "there"), "export: there exists: choose another folder"),
        (("results/r", "-o", "new"), "recording.every is not 1"),
        (("results/plain", "-o", "new"), "no episode with recorded steps: recording.steps=true records them"),
    ):
        done = vlaeval("export", *words)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))
