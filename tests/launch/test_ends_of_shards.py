"""What a shard's job does for those that still wait; what Slurm is asked is counted, for thousands end together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.results.made import made_plan, made_run
from vlaeval_hpc.launch import slurm, tasks
from vlaeval_hpc.launch.decisions import decisions
from vlaeval_hpc.launch.jobs import Job, Submission, record
from vlaeval_hpc.run.directory import RunDirectory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    found: Counter[str] = Counter()

    def cancel(ids: Sequence[str]) -> None:
        found.update(f"cancel {i}" for i in ids)

    def cancel_pending(ids: Sequence[str]) -> None:
        found[f"cancel pending {','.join(ids)}"] += 1

    def not_started(_: Sequence[str]) -> list[str]:
        found["not started"] += 1
        return ["6_1"]

    for function in (cancel, cancel_pending, not_started):
        monkeypatch.setattr(slurm, function.__name__, function)
    return found


def ended(folder: Path, sharding: str) -> RunDirectory:
    run = made_run(folder, replace(made_plan(2), sharding=sharding))
    record(run, [Submission([Job("shards", "6", [[0], [1]])])])
    return run


def test_one_of_all_that_end_together_cancels_those_that_wait(tmp_path: Path, asked: Counter[str]) -> None:
    run = ended(tmp_path, "elastic")
    finished = run.all_finished(made_plan(2).leases)
    finished.parent.mkdir(parents=True, exist_ok=True)
    finished.touch()
    for _ in range(50):
        tasks._cancel_waiting(run)
    assert asked == {"cancel pending 6": 1}
    past = finished.stat().st_mtime - tasks.CANCEL_EVERY - 1
    os.utime(finished.with_name("cancelled"), (past, past))
    for _ in range(50):  # one that was just starting may be back in the queue
        tasks._cancel_waiting(run)
    assert asked == {"cancel pending 6": 2}


@pytest.mark.parametrize("sharding", ["elastic", "static"])
def test_before_all_is_finished_those_that_no_node_started_are(
    tmp_path: Path, asked: Counter[str], sharding: str
) -> None:
    run = ended(tmp_path, sharding)
    tasks._cancel_waiting(run)
    assert asked == {"not started": 1, "cancel 6_1": 1}
    assert [d["decision"] for d in decisions(run)] == ["6_1 is cancelled"]
