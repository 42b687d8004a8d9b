from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.results.made import made_plan, made_record, made_run, write_journal, write_result
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.status import RunStatus, read_status
from vlaeval_hpc.results.statustable import print_status
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.lock import Lock


def leave(path: Path, content: object, age: float) -> None:
    path.write_text(json.dumps(content))
    os.utime(path, (time.time() - age,) * 2)


def mixed(root: Path) -> RunDirectory:
    """Four shards: done, running, stalled, waiting."""
    plan = made_plan(shards=4)
    run = made_run(root, plan)
    done = [made_record(i, success=i.episode % 2 > 0) for i in plan.assigned(0)]
    write_journal(run, plan, 0, done)
    write_result(run, plan, 0, done)
    first, second = plan.assigned(1)[:2]
    write_journal(run, plan, 1, [made_record(first, failure="simulator_crash"), made_record(second)])
    progress = {"completed": 2, "total": 3, "errors": 1, "host": "n1", "phase": "step", "task": "task-2", "episode": 1}
    for shard, age in ((1, 5.0), (2, 500.0)):
        files = run.shard(plan.name, shard, 4)
        leave(files.lock, {"host": "n1"}, age)
        leave(files.progress, progress, age)
    return run


def test_states_and_counts(tmp_path: Path) -> None:
    status = read_status(mixed(tmp_path))
    assert [s.state for s in status.shards] == ["done", "running", "stalled", "waiting"]
    assert status.states == {"running": 1, "stalled": 1, "waiting": 1, "done": 1}
    assert [(s.completed, s.total) for s in status.shards] == [(3, 3), (2, 3), (0, 3), (0, 3)]
    assert (status.total, status.completed, status.errors, status.successes) == (12, 5, 1, 1)
    running = status.shards[1]
    assert running.heartbeat_age == pytest.approx(5, abs=2) and status.shards[3].heartbeat_age is None
    assert (running.host, running.phase, running.task, running.episode, running.steps) == (
        "n1",
        "step",
        "task-2",
        1,
        None,
    )
    assert not status.merged and status.problems == []


def test_progress_alone_is_a_sign_of_life_of_who_holds_the_lock(tmp_path: Path) -> None:
    run = mixed(tmp_path)
    files = run.shard("made", 2, 4)
    os.utime(files.progress)
    assert read_status(run).shards[2].state == "running"
    files.lock.unlink()
    assert read_status(run).shards[2].state == "waiting"


def test_a_real_lock_is_running(tmp_path: Path) -> None:
    run = mixed(tmp_path)
    with Lock(run.shard("made", 3, 4).lock):
        assert read_status(run).shards[3].state == "running"
    assert read_status(run).shards[3].state == "waiting"


def test_items_count_for_the_shard_that_has_them_now(tmp_path: Path) -> None:
    plan, before = made_plan(shards=4), made_plan(shards=1)
    run = made_run(tmp_path, plan)
    write_journal(run, before, 0, [made_record(i) for i in plan.items[:5]])
    assert [s.completed for s in read_status(run).shards] == [2, 1, 1, 1]


def test_unusual_journals_are_parsed_and_named(tmp_path: Path) -> None:
    run = mixed(tmp_path)
    with run.shard("made", 1, 4).journal.open("a") as journal:
        journal.write("nonsense\n")
    status = read_status(run)
    assert (status.completed, status.errors, status.successes) == (5, 1, 1)
    assert len(status.problems) == 1 and "not an episode" in status.problems[0]


def test_a_lone_shard_file_counts(tmp_path: Path) -> None:
    run = mixed(tmp_path)
    run.shard("made", 0, 4).journal.unlink()
    assert read_status(run).shards[0].state == "done"


def test_a_benchmark_without_success(tmp_path: Path) -> None:
    plan = made_plan(shards=1, metrics={"avg_len": "mean"})
    run = made_run(tmp_path, plan)
    write_journal(run, plan, 0, [made_record(i, metrics={"avg_len": 3}) for i in plan.items])
    status = read_status(run)
    assert status.completed == 12 and not status.rated
    assert "success" not in printed(status).splitlines()[0]


@pytest.mark.parametrize("content", ["", "[]", "null", '{"host": 3, "episode": "x"}', "\x00"])
def test_foreign_progress_files_are_no_trouble(tmp_path: Path, content: str) -> None:
    run = mixed(tmp_path)
    run.shard("made", 1, 4).progress.write_text(content)
    assert read_status(run).shards[1].host is None


def test_somebody_elses_run_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    run = mixed(tmp_path)
    monkeypatch.setattr("tempfile.TemporaryFile", refused)  # root may write everywhere
    assert read_status(run).states["running"] == 1


def test_nothing_but_a_plan(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    made_plan(shards=2).save(run.plan)
    assert read_status(run).states["waiting"] == 2
    with pytest.raises(ConfigurationError, match="plan.json"):
        read_status(RunDirectory(tmp_path / "nowhere"))


def printed(status: RunStatus, terminal: bool = False) -> str:
    stream = io.StringIO()
    print_status(Console(file=stream, force_terminal=terminal, width=140), status)
    return stream.getvalue()


def test_printed(tmp_path: Path) -> None:
    status = read_status(mixed(tmp_path))
    lines = printed(status).splitlines()
    assert lines[0] == "made: 5 of 12 episodes (41.7 %), 1 errors, success 20.0 % [3.6, 62.4] n=5"
    assert lines[1] == "4 shards: 1 running, 1 stalled, 1 waiting, 1 done"
    assert lines[4].split() == [
        "1",
        "running",
        "2/3",
        "1",
        "1",
        "5",
        "s",
        "ago",
        "n1",
        "step",
        "task-2",
        "episode",
        "1",
    ]
    assert "stalled" in printed(status, terminal=True)


def test_of_many_shards_the_troubled_ones_are_printed(tmp_path: Path) -> None:
    plan = made_plan(shards=60, episodes=20)
    run = made_run(tmp_path, plan)
    for shard in range(40):
        leave(run.shard(plan.name, shard, 60).lock, {}, 500.0 if shard == 39 else 1.0)
    lines = printed(read_status(run)).splitlines()
    assert lines[3].split()[:2] == ["39", "stalled"] and lines[4].split()[:2] == ["0", "running"]
    assert lines[-1] == "and 36 more shards: --json lists all"
