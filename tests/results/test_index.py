"""What lies under a results root, and that only what has changed is read again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.results.made import made_plan, made_record, made_run, write_journal, write_result
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results import index as index_module
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.results.index import Entry, known_index, read_head, read_index
from vlaeval_hpc.run.directory import RunDirectory


def some_run(root: Path, share: float = 1.0, merge: bool = True, **plan_changes: object) -> RunDirectory:
    plan = made_plan(shards=2)
    plan.model.update(name="pilot", checkpoint="step-300")
    plan.__dict__.update(plan_changes)
    run = made_run(root, plan)
    for shard in range(2):
        mine = plan.assigned(shard)
        write_journal(run, plan, shard, [made_record(i, i.episode < 2) for i in mine[: int(share * len(mine))]])
    if merge:
        merge_into_files(run)
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    some_run(root / "done")
    some_run(root / "project" / "part", share=0.5)
    some_run(root / "project" / "fresh", share=0, merge=False)
    sweep = root / "sweeps" / "s"
    sweep.mkdir(parents=True)
    (sweep / "points.json").write_text("{}")
    (sweep / "link").symlink_to(root / "done")
    return root


def entries(root: Path, cache: Path) -> dict[str, Entry]:
    return {entry.path: entry for entry in read_index(root, cache).runs}


def test_runs_and_sweeps_at_any_depth(root: Path, tmp_path: Path) -> None:
    index = read_index(root, tmp_path / "cache")
    assert [e.path for e in index.runs] == ["done", "project/fresh", "project/part"]
    assert index.sweeps == ["sweeps/s"] and not index.problems
    done, fresh, part = index.runs
    assert (done.state, done.planned, done.finished, done.n, done.mean) == ("done", 12, 12, 12, 0.5)
    assert done.low is not None and done.high is not None and done.low < 0.5 < done.high and done.rate
    assert (done.model, done.checkpoint, done.benchmark, done.merged) == ("pilot", "step-300", "made", True)
    assert (part.state, part.planned, part.finished, part.n) == ("waiting", 12, 6, 6)
    assert (fresh.state, fresh.finished, fresh.mean, fresh.low, fresh.merged) == ("waiting", 0, None, None, False)


def test_what_was_found_is_there_at_once(root: Path, tmp_path: Path) -> None:
    assert known_index(root, tmp_path / "cache") is None
    index = read_index(root, tmp_path / "cache")
    assert known_index(root, tmp_path / "cache") == index
    assert known_index(tmp_path, tmp_path / "cache") is None  # another root's
    (tmp_path / "cache" / "index.json").write_text("{")
    assert known_index(root, tmp_path / "cache") is None
    assert read_index(root, tmp_path / "cache").runs == index.runs


def test_only_what_changed_is_read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    entry = index_module._entry
    monkeypatch.setattr(index_module, "_entry", lambda name, path: read.append(name) or entry(name, path))
    cache = tmp_path / "cache"
    entries(root, cache)
    assert sorted(read) == ["done", "project/fresh", "project/part"]
    read.clear()
    entries(root, cache)
    assert read == []
    part = RunDirectory(root / "project" / "part")
    plan = made_plan(shards=2)
    write_journal(part, plan, 0, [made_record(plan.assigned(0)[-1], False)])  # appended: no folder changes
    found = entries(root, cache)
    assert read == ["project/part"] and found["project/part"].finished == 7
    read.clear()
    some_run(root / "more")
    shutil.rmtree(root / "done")
    assert set(entries(root, cache)) == {"more", "project/fresh", "project/part"} and read == ["more"]


def test_a_running_run_is_always_read(root: Path, tmp_path: Path) -> None:
    fresh = RunDirectory(root / "project" / "fresh")
    lock = fresh.shard("made", 0, 2).lock
    lock.write_text(json.dumps({"host": "n", "pid": 1, "job": "1"}))
    assert entries(root, tmp_path / "cache")["project/fresh"].state == "running"
    os.utime(lock, (1e9, 1e9))
    assert entries(root, tmp_path / "cache")["project/fresh"].state == "stalled"


def test_a_merged_file_that_is_older_than_its_run(root: Path, tmp_path: Path) -> None:
    done = RunDirectory(root / "done")
    plan = made_plan(shards=2, episodes=5)
    plan.save(done.plan)  # resumed with more episodes
    os.utime(done.merged, (1e9, 1e9))
    found = entries(root, tmp_path / "cache")["done"]
    assert (found.state, found.planned, found.finished, found.n) == ("waiting", 15, 12, 12)


def test_what_cannot_be_read_is_named(root: Path, tmp_path: Path) -> None:
    (root / "torn").mkdir()
    (root / "torn" / "plan.json").write_text("{")
    index = read_index(root, tmp_path / "cache")
    assert len(index.runs) == 3 and [str(root / "torn" / "plan.json") in line for line in index.problems] == [True]
    with pytest.raises(ConfigurationError, match="nowhere: no such folder"):
        read_index(tmp_path / "nowhere", tmp_path / "cache")


def test_a_cache_that_cannot_be_written_costs_time_only(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(read_index(root, tmp_path / "file" / "cache").runs) == 3


def test_heads_of_files_laid_out_otherwise(tmp_path: Path) -> None:
    run = some_run(tmp_path / "r")
    head = read_head(run.merged, "tasks")
    whole = json.loads(run.merged.read_text())
    assert head == {k: v for k, v in whole.items() if k != "tasks"}
    run.merged.write_text(json.dumps(whole))
    assert read_head(run.merged, "tasks") == whole
    assert read_head(run.plan, "items")["name"] == "made"
    run.plan.write_text("[]")
    with pytest.raises(ConfigurationError, match="no JSON object"):
        read_head(run.plan, "items")


def test_an_elastic_run_is_done_when_all_its_items_are(tmp_path: Path) -> None:
    plan = replace(made_plan(shards=2), sharding="elastic")
    run = made_run(tmp_path / "results" / "r", plan)
    records = [made_record(i, i.episode < 2) for i in plan.items]
    write_journal(run, plan, 0, records)
    write_result(run, plan, 0, records)
    (entry,) = read_index(tmp_path / "results", tmp_path / "cache").runs
    assert (entry.state, entry.finished, entry.mean, entry.merged) == ("done", 12, 0.5, False)
