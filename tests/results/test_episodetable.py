"""episodes.parquet: what merge writes of a run for SQL, whatever the benchmark."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.results.episodetable import COLUMNS, connection, create, episodes_path, fill, subject
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.run.files import check_schema, read_json


def table(path: Path) -> list[tuple[object, ...]]:
    return duckdb.connect().execute("SELECT * FROM read_parquet($1) ORDER BY task, episode_id", [str(path)]).fetchall()


def test_a_row_an_episode_with_who_ran_it(tmp_path: Path) -> None:
    plan = made_plan(shards=2, tasks=2, episodes=2)
    plan.model.update(name="pilot", checkpoint=300)
    run = made_run(tmp_path / "my run", plan)
    first, second, *_ = plan.assigned(0)
    broken = made_record(first, failure="simulator_crash", host="sick")
    write_journal(run, plan, 0, [broken, made_record(first, metrics={"success": True, "distance": 0.25, "note": "x"})])
    write_journal(run, plan, 1, [made_record(plan.assigned(1)[0], failure="bad_action", shard=1, started_at=None)])
    merged = merge_into_files(run)
    check_schema(run.merged, read_json(run.merged)["schema"])
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table(episodes_path(run))]
    assert len(rows) == merged["num_episodes"] == 2
    won, lost = rows
    assert (
        won["run"] == "my run" and won["model"] == "pilot" and won["checkpoint"] == "300" and won["benchmark"] == "made"
    )
    assert (won["success"], won["failure_reason"], won["attempts"], won["host"]) == (1.0, None, 2, "here")
    assert won["metrics"] == {"success": 1.0, "distance": 0.25}
    assert won["finished_at"].isoformat() == "2023-11-14T22:13:21.500000"
    assert (lost["success"], lost["failure_reason"], lost["shard"], lost["started_at"]) == (0.0, "bad_action", 1, None)
    assert second.task  # planned, and not there


def test_the_schema_does_not_depend_on_what_is_in_it(tmp_path: Path) -> None:
    shapes = set()
    for name, metrics in (("a", {"success": True}), ("b", {"progress": 0.5}), ("c", None)):
        plan = made_plan(1, metrics={"progress": "mean"})
        run = made_run(tmp_path / name, plan)
        write_journal(run, plan, 0, [made_record(i, metrics=metrics) for i in plan.items] if metrics else [])
        merge_into_files(run)
        path = str(episodes_path(run))
        shapes.add(tuple(duckdb.connect().execute("DESCRIBE SELECT * FROM read_parquet($1)", [path]).fetchall()))
    assert len(shapes) == 1
    assert [(row[0], row[1]) for row in shapes.pop()] == list(COLUMNS.items())


def test_values_of_another_type_are_missing() -> None:
    con = connection()
    create(con, "t")
    odd = {"task": "t", "episode_id": 0, "metrics": {"success": None, "x": float("nan")}, "steps": "many", "host": 7}
    fill(con, "t", subject("r", {"model": {}, "name": "b"}), [odd])
    assert con.execute("SELECT success, steps, host, metrics, model FROM t").fetchall() == [(None, None, "7", {}, None)]
