"""The same files, merged by vla-eval 0.2.0 itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.results.made import made_plan, made_record, made_run, results, shard_content, write_result, write_shards
from vlaeval_hpc.results.merge import merge_files

# Merges folder after folder in one process: each takes two seconds to start.
PEER = """
import json, pathlib, sys
from vla_eval.results.merge import load_shard_files, merge_shards
for line in sys.stdin:
    print(json.dumps(merge_shards(load_shard_files([pathlib.Path(p) for p in json.loads(line)]))), flush=True)
"""
# Ours say who merged, and when; the rest of what vla-eval writes must be there, equal.
OWN = ("harness_version", "created_at")
KEYS = {"success": "mean", "progress": "mean", "subtasks": "max", "least": "min", "total": "sum", "odd": "median"}


class Peer:
    """vla-eval's merge."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def merge(self, paths: list[Path]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([str(p) for p in paths]) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def peer(vla_eval_02_python: Path) -> Any:
    found = Peer(vla_eval_02_python)
    yield found
    found.close()


def assert_same(peer: Peer, paths: list[Path]) -> None:
    theirs, ours = peer.merge(paths), merge_files(paths)
    for key, value in theirs.items():
        if key not in (*OWN, "tasks"):
            assert ours[key] == value, key
    assert len(ours["tasks"]) == len(theirs["tasks"])
    for mine, other in zip(ours["tasks"], theirs["tasks"], strict=True):
        other["episodes"].sort(key=lambda e: e["episode_id"])  # theirs are as the files came
        assert {k: mine[k] for k in other} == other


@pytest.mark.parametrize("missing", [0, 2])
def test_same_numbers(peer: Peer, tmp_path: Path, missing: int) -> None:
    episodes = []
    for i in range(60):
        graded = {"progress": i % 7 / 7, "subtasks": i % 5, "least": -i, "total": 0.1 * i, "odd": i}
        episode: dict[str, Any] = {"metrics": {"success": i % 3 > 0, **graded}, "steps": i, "elapsed_sec": i / 3}
        if i % 11 == 5:
            episode = {"metrics": {"success": False}, "failure_reason": "timeout", "failure_detail": "x"}
        episodes.append((f"task-{i % 4}", {**episode, "episode_id": i // 4}))
    shards = [shard_content(i, 5, episodes[i::5], KEYS) for i in range(5)]
    shards[3]["tasks"].append({"task": "task-0", "episodes": [{"metrics": {"success": True}, "episode_id": 0}]})
    shards[4]["tasks"].append({"task": "none", "episodes": []})
    assert_same(peer, write_shards(tmp_path, shards[missing:]))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(results(), st.integers(1, 4), st.data())
def test_same_numbers_whatever_the_files(
    peer: Peer, tmp_path: Path, episodes: list[tuple[str, dict[str, Any]]], shards: int, data: st.DataObject
) -> None:
    keys = {"success": "mean", "progress": "mean", "subtasks": data.draw(st.sampled_from(["sum", "max", "min"]))}
    contents = [shard_content(i, shards, episodes[i::shards], keys) for i in range(shards)]
    if data.draw(st.booleans()):
        contents[0]["partial"] = True
    kept = data.draw(st.permutations(contents).map(lambda c: c[: data.draw(st.integers(1, shards))]))
    assert_same(peer, write_shards(tmp_path, kept))


def test_our_own_shard_files_are_read_by_vla_eval(peer: Peer, tmp_path: Path) -> None:
    plan = made_plan(shards=3)
    run = made_run(tmp_path, plan)
    paths = []
    for shard in range(3):
        failing = [made_record(item, failure="simulator_crash") for item in plan.assigned(shard)[:1]]
        paths.append(write_result(run, plan, shard, failing + [made_record(i) for i in plan.assigned(shard)[1:]]))
    assert_same(peer, paths)
