from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.results.made import made_plan, made_record, made_run, write_journal, write_result
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.rundir import merge_run
from vlaeval_hpc.results.table import remarks
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Item


def without_time(merged: dict[str, Any]) -> str:
    drop = ("elapsed_sec", "attempts")
    tasks = [
        {**t, "episodes": [{k: v for k, v in e.items() if k not in drop} for e in t["episodes"]]}
        for t in merged["tasks"]
    ]
    return json.dumps(tasks)


def test_a_finished_run(tmp_path: Path) -> None:
    plan = made_plan(shards=2)
    run = made_run(tmp_path, plan)
    for shard in range(2):
        records = [made_record(item, success=item.episode > 0) for item in plan.assigned(shard)]
        write_journal(run, plan, shard, records)
        write_result(run, plan, shard, records)
    merged = merge_run(run)
    assert "partial" not in merged and merged["problems"] == []
    assert merged["mean_success"] == 0.75 and merged["mean_success_interval"] == [0.467695, 0.911058]
    assert merged["coverage"] == {
        "planned": 12,
        "finished": 12,
        "missing": 0,
        "retriable": 0,
        "open_shards": [],
        "tasks_missing": [],
    }
    assert merged["merge_info"] == {"num_shards": 2, "shards_found": [0, 1], "shards_missing": [], "total_episodes": 12}
    assert merged["seed"] == 7 and merged["server_info"] == {"model_server": "made"}
    assert merged["shard_created_at"]["first"].startswith("2023-11-14T22:13:21.5")
    assert [e["episode_id"] for e in merged["tasks"][0]["episodes"]] == [0, 1, 2, 3]
    assert not {"host", "started_at", "run", "task", "shard"} & set(merged["tasks"][0]["episodes"][0])


@settings(deadline=None)
@given(st.integers(1, 6), st.randoms(use_true_random=False), st.integers(0, 12))
def test_whoever_ran_it_in_whatever_order_the_tasks_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, shards: int, chance: random.Random, late: int
) -> None:
    """Some items by shards of one split, the rest after a restart by shards of another."""
    whole = made_plan(shards=1)
    reference = made_run(tmp_path_factory.mktemp("one"), whole)
    write_journal(reference, whole, 0, [made_record(i, success=i.episode % 2 > 0) for i in whole.items])
    plan, before = made_plan(shards), made_plan(shards + 1)
    run = made_run(tmp_path_factory.mktemp("many"), plan)
    items = plan.items[:]
    chance.shuffle(items)
    early = {item.key for item in items[late:]}
    for split in (before, plan):
        for shard in range(split.shards):
            mine = [i for i in split.assigned(shard) if (i.key in early) == (split is before)]
            chance.shuffle(mine)
            records = [made_record(i, success=i.episode % 2 > 0, elapsed_sec=chance.random()) for i in mine]
            write_journal(run, split, shard, records)
    merged = merge_run(run)
    assert without_time(merged) == without_time(merge_run(reference))
    assert "partial" not in merged and merged["merge_info"]["shards_missing"] == []


def test_what_is_missing_of_shared_work_is_no_shards(tmp_path: Path) -> None:
    plan = replace(made_plan(shards=4), sharding="elastic", leases=1)
    run = made_run(tmp_path, plan)
    write_journal(run, plan, 3, [made_record(item) for item in plan.items[:5]])
    write_journal(run, plan, 7, [made_record(plan.items[5])])  # of those that `scale` added
    merged = merge_run(run)
    assert merged["partial"] is True and "open_shards" not in merged["coverage"]
    assert merged["merge_info"] == {"num_shards": 2, "shards_found": [3, 7], "shards_missing": [], "total_episodes": 6}
    assert remarks(merged)[0] == "PARTIAL: 6 of 12 planned episodes, 6 missing"


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path) -> None:
    plan = made_plan(shards=4)
    run = made_run(tmp_path, plan)
    write_journal(run, plan, 0, [made_record(i) for i in plan.assigned(0)])
    write_journal(run, plan, 1, [made_record(i) for i in plan.assigned(1)[:1]])
    merged = merge_run(run)
    assert merged["partial"] is True
    assert merged["coverage"]["missing"] == 8 and merged["coverage"]["open_shards"] == [1, 2, 3]
    assert merged["merge_info"]["shards_missing"] == [2, 3]
    assert merged["coverage"]["tasks_missing"] == []
    assert merged["mean_success_n"] == 4


def test_nothing_finished_at_all(tmp_path: Path) -> None:
    merged = merge_run(made_run(tmp_path, made_plan(shards=2)))
    assert merged["partial"] is True and merged["tasks"] == [] and "mean_success" not in merged
    assert merged["coverage"]["tasks_missing"] == ["task-0", "task-1", "task-2"]


def test_a_failure_that_was_tried_again_is_no_problem(tmp_path: Path) -> None:
    plan = made_plan(shards=1)
    run = made_run(tmp_path, plan)
    first, second, third = plan.items[:3]
    crash = "simulator_crash"
    records = [made_record(first, failure=crash), made_record(first), made_record(second, failure=crash)]
    records += [made_record(third, failure="policy_error"), *(made_record(i) for i in plan.items[3:])]
    write_journal(run, plan, 0, records)
    merged = merge_run(run)
    assert merged["problems"] == [] and "partial" not in merged
    assert merged["failure_reasons"] == {"policy_error": 1, crash: 1}
    assert merged["coverage"]["retriable"] == 1
    assert merged["mean_success"] == round(10 / 12, 4) and merged["mean_success_completed"] == 1.0
    assert merged["tasks"][0]["episodes"][0]["attempts"] == 2


def test_outcomes_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    plan, before = made_plan(shards=1), made_plan(shards=2)
    run = made_run(tmp_path, plan)
    write_journal(run, plan, 0, [made_record(i) for i in plan.items])
    other = [made_record(plan.items[0], success=False), made_record(plan.items[2])]
    path = write_journal(run, before, 0, other)
    merged = merge_run(run)
    assert f"{path}: 1 episode also in {run.shard('made', 0, 1).journal} with another outcome" in merged["problems"][0]
    assert "with the same outcome" in merged["problems"][1]
    assert merged["num_episodes"] == 12 and merged["mean_success"] == round(11 / 12, 4)


def test_what_is_not_of_this_run_is_named_and_not_used(tmp_path: Path) -> None:
    plan = made_plan(shards=2)
    run = made_run(tmp_path, plan)
    stranger, wrong_seed = Item("other", 0, 7), Item("task-0", 0, 8)
    foreign = [made_record(i, run="feedfacefeedface") for i in plan.assigned(0)]
    path = write_journal(run, plan, 0, [*foreign, made_record(stranger), made_record(wrong_seed)])
    (run.shards / "note.json").write_text("{}")
    (run.shards / "torn.json").write_text('{"a": ')
    foreign_result = write_result(run, made_plan(shards=3), 2, [])
    foreign_result.write_text(foreign_result.read_text().replace(plan.run, "feedfacefeedface"))
    merged = merge_run(run)
    assert merged["num_episodes"] == 0 and merged["partial"] is True
    problems = "\n".join(merged["problems"])
    assert problems.count("of another run (feedfacefeedface), not used") == 4
    assert f"{path}: 3 more lines not used" in problems
    assert f"{path}: 2 episodes not in the plan, not used (other 0, task-0 0)" in problems
    assert f"{run.shards / 'note.json'}: not a shard result: no 'shard', not used" in problems
    assert f"{run.shards / 'torn.json'}: not readable as JSON" in problems


def test_a_torn_line_is_dropped_and_a_damaged_one_named(tmp_path: Path) -> None:
    plan = made_plan(shards=1)
    run = made_run(tmp_path, plan)
    path = write_journal(run, plan, 0, [made_record(i) for i in plan.items])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], b"\x00\xff nonsense\n", *lines[6:-1], lines[-1][:-20]]))
    merged = merge_run(run)
    assert merged["problems"] == [f"{path}:6: not an episode, not used"]
    assert merged["coverage"]["missing"] == 2


def test_lines_that_only_together_are_json_are_not_used(tmp_path: Path) -> None:
    plan = made_plan(shards=1)
    run = made_run(tmp_path, plan)
    path = write_journal(run, plan, 0, [made_record(i) for i in plan.items])
    line = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(line.replace(b', "seed"', b'\n"seed"'))
    merged = merge_run(run)
    assert merged["num_episodes"] == 0 and len(merged["problems"]) == 2


def test_a_shard_file_stands_in_for_a_lost_journal(tmp_path: Path) -> None:
    plan = made_plan(shards=2)
    run = made_run(tmp_path, plan)
    for shard in range(2):
        records = [made_record(i) for i in plan.assigned(shard)]
        write_result(run, plan, shard, records)
    write_journal(run, plan, 0, [made_record(i) for i in plan.assigned(0)])
    merged = merge_run(run)
    assert merged["coverage"]["missing"] == 0 and merged["problems"] == []


def test_a_graded_benchmark(tmp_path: Path) -> None:
    plan = made_plan(shards=1, metrics={"avg_len": "mean", "longest": "max"})
    run = made_run(tmp_path, plan)
    graded = [made_record(i, metrics={"avg_len": i.episode, "longest": i.episode}) for i in plan.items]
    write_journal(run, plan, 0, graded)
    merged = merge_run(run)
    assert (merged["mean_avg_len"], merged["max_longest"]) == (1.5, 3) and merged["problems"] == []


def test_no_plan_no_merge(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="plan.json"):
        merge_run(RunDirectory(tmp_path))
