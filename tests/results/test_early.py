"""sweep.stop=early: what counts at a look, and what is marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.early import EARLY, flips
from vlaeval_hpc.results.outcomes import outcomes
from vlaeval_hpc.results.rundir import merge_run
from vlaeval_hpc.results.sweep import Point, Points, SweepFolder, read_sweep, stop_worse
from vlaeval_hpc.run.directory import RunDirectory


def run(root: Path, won: float, rounds: dict[str, int], seed: int = 7) -> RunDirectory:
    """Episodes below `won` of 20 are won; of each task the first so many are finished."""
    plan = made_plan(shards=1, episodes=20)
    plan.benchmark = {**plan.benchmark, "seed": seed}
    made = made_run(root, plan)
    done = [i for i in plan.items if i.episode < rounds.get(i.task, rounds[""])]
    write_journal(made, plan, 0, [made_record(i, i.episode % 20 < won) for i in done])
    return made


def test_only_whole_rounds_count(tmp_path: Path) -> None:
    a = run(tmp_path / "a", 20, {"": 20})
    b = run(tmp_path / "b", 5, {"": 15, "task-1": 9})
    found = flips([outcomes("a", merge_run(a)), outcomes("b", merge_run(b))])
    assert found == {("a", "b"): (3 * 4, 0)}  # episodes 5 to 8 of three tasks
    with pytest.raises(ConfigurationError, match="does not pair"):
        flips([outcomes("a", merge_run(a)), outcomes("c", merge_run(run(tmp_path / "c", 5, {"": 9}, seed=8)))])


def test_a_point_that_is_clearly_worse_is_marked_once(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    points = Points(["model.checkpoint"], [], EARLY, 2)
    for label, won in (("1", 0), ("2", 17), ("3", 18)):
        points.add(Point(label, [], int(label), folder.link(run(tmp_path / label, won, {"": 20}))))
    points.add(Point("4", [], 4, error="no such file"))
    folder.save(points)
    assert [(p.label, p.stopped_after) for p in stop_worse(folder)] == [("1", 60)]
    assert stop_worse(folder) == []
    found = read_sweep(folder)
    assert [p["state"] for p in found["points"]] == ["stopped", "partial", "partial", "failed"]
    assert found["points"][0]["resume"].endswith(f"resume {folder.root}")
    points = folder.load()
    points.looks = 6
    folder.save(points)
    found = read_sweep(folder)
    assert [p["state"] for p in found["points"]] == ["stopped", "done", "done", "failed"]
    assert found["points"][0]["resume"].endswith(f"resume {tmp_path}/1")
    assert "stopped early, clearly worse than another: 1 (alpha 0.05 over all looks)" in found["caution"][-1]
