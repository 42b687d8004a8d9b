from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.result import ATTEMPTS, is_open, settle


def plan(items: int, shards: int) -> Plan:
    work = [Item(f"task {i // 3}", i % 3, 7) for i in range(items)]
    return Plan("r", "toy", shards, work, [{"name": "task 0"}], {"metrics": {}}, {}, {})


def test_saved_and_loaded_alike(tmp_path: Path) -> None:
    for items in (0, 1, 7):
        plan(items, 2).save(tmp_path / "plan.json")
        assert Plan.load(tmp_path / "plan.json") == plan(items, 2)


@given(st.integers(0, 60), st.integers(1, 9))
def test_shards_part_the_items(items: int, shards: int) -> None:
    made = plan(items, shards)
    parts = [made.assigned(i) for i in range(shards)]
    assert sorted(i for part in parts for i in part) == sorted(made.items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("shard", [-1, 2])
def test_a_shard_that_is_none_is_refused(shard: int) -> None:
    with pytest.raises(ConfigurationError, match="valid: 0 to 1"):
        plan(4, 2).assigned(shard)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "items": [{"task": 3}]}'])
def test_what_is_no_plan_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigurationError, match="plan.json"):
        Plan.load(tmp_path / "plan.json")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan(1, 1).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(ConfigurationError, match="upgrade"):
        Plan.load(path)


def test_an_outcome_stands_before_a_failure_and_tries_are_counted() -> None:
    def record(i: int, reason: str | None = None) -> dict[str, object]:
        failure = {"failure_reason": reason} if reason else {}
        return {"task": "t", "episode_id": i, "metrics": {"success": not reason}, **failure}

    crash = "simulator_crash"
    assert "failure_reason" not in settle([record(0, crash), record(0)])["t", 0]
    assert "failure_reason" not in settle([record(0), record(0, crash)])["t", 0]
    assert is_open(settle([record(0, crash)] * (ATTEMPTS - 1))["t", 0])
    assert not is_open(settle([record(0, crash)] * ATTEMPTS)["t", 0])
    assert not is_open(settle([record(0, "policy_error")])["t", 0])
