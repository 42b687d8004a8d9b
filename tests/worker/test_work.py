"""Who of a shard's simulators gets which item."""

from __future__ import annotations

from pathlib import Path

from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.worker.work import StaticWork


def test_an_item_in_flight_is_given_to_nobody_else(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.create()
    items = [Item("t", n, 0) for n in range(3)]
    plan = Plan("r", "toy", 1, items, [{"name": "t"}], {}, {}, {}, simulators=2)
    work = StaticWork(run, plan, 0, run.shard("toy", 0, 1))
    assert [work.next(0), work.next(1)] == items[:2]
    work.note({"task": "t", "episode_id": 0, "metrics": {}})
    assert work.next(0) == items[2]
    assert work.next(1) is None  # 1 and 2 are in flight
    failed = {"task": "t", "metrics": {}, "failure_reason": "simulator_crash"}
    work.note({**failed, "episode_id": 1})
    assert work.next(1) == items[1]
    assert work.next(1) is None and work.pause() is None
    work.note({"task": "t", "episode_id": 1, "metrics": {}})
    work.note({"task": "t", "episode_id": 2, "metrics": {}})
    assert work.next(0) is None and work.completed == 3
