"""sweep.json and sweep.csv: what points show together, and what of them is open."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.sweep import Point, Points, SweepFolder, is_sweep, read_sweep, write_sweep
from vlaeval_hpc.results.sweeptable import print_sweep
from vlaeval_hpc.results.table import percent
from vlaeval_hpc.run.directory import RunDirectory


def run(root: Path, rate: float, finished: int = 30, seed: int = 7) -> RunDirectory:
    """3 tasks x 30 episodes, of which in each task the first `rate` are won; `finished` of each task are done."""
    plan = made_plan(shards=1, episodes=30)
    plan.benchmark = {**plan.benchmark, "seed": seed}
    made = made_run(root, plan)
    write_journal(made, plan, 0, [made_record(i, i.episode < 30 * rate) for i in plan.items if i.episode < finished])
    return made


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    found = SweepFolder(tmp_path / "sweeps" / "s")
    points = Points(["model.checkpoint"])
    for step, rate, finished in ((0, 0.0, 30), (100, 0.6, 30), (1000, 0.9, 30), (3000, 0.95, 20), (10000, 1.0, 0)):
        made = run(tmp_path / f"r{step}", rate, finished)
        points.add(Point(str(step), [f"model.checkpoint={step}"], step, found.link(made)))
    points.add(Point("20000", ["model.checkpoint=20000"], 20000, error="model.checkpoint: 20000: no such file"))
    found.save(points)
    return found


def test_what_points_show_together(folder: SweepFolder, tmp_path: Path) -> None:
    found = write_sweep(folder)
    assert json.loads(folder.json.read_text()) == found
    points = {p["label"]: p for p in found["points"]}
    assert [p["state"] for p in found["points"]] == ["done", "done", "done", "partial", "waiting", "failed"]
    assert [p["n"] for p in found["points"]] == [90, 90, 90, 60, 0, 0]
    assert (points["100"]["rate"], points["100"]["run"]) == (0.6, "../../r100")
    assert points["100"]["low"] == pytest.approx(0.497, abs=1e-3) and points["100"]["over_tasks"] is not None
    assert points["100"]["per_task"][0]["n"] == 30 and points["100"]["per_task"][0]["rate"] == 0.6
    assert points["100"]["resume"] is None
    assert points["3000"]["resume"] == f"python -m vlaeval_hpc resume {tmp_path}/r3000"
    assert points["20000"]["resume"] == f"python -m vlaeval_hpc resume {folder.root}"
    letters = found["letters"]
    assert not set(letters["0"]) & set(letters["100"]) and set(letters["1000"]) & set(letters["3000"])
    assert found["best"]["label"] == "3000" and "1000" in found["best"]["of"]
    assert "too high on average" in found["caution"][0]
    first = found["neighbours"][0]
    assert (first["from"], first["to"], first["gained"], first["lost"]) == ("0", "100", 54, 0)
    assert first["flips"][0] == {"task": "task-0", "episode": 0, "outcome": "gained"}
    assert [p["to"] for p in found["against_best"]] == ["0", "100", "1000"]


def test_the_table(folder: SweepFolder) -> None:
    stream = io.StringIO()
    found = read_sweep(folder)
    print_sweep(Console(file=stream, width=200), found)
    lines = stream.getvalue().splitlines()
    assert lines[0].split()[0] == "model.checkpoint"
    assert percent(0.6, [found["points"][1]["low"], found["points"][1]["high"]]) in lines[2]
    assert "60 of 90" in lines[4] and lines[4].endswith("partial") and lines[6].endswith("failed")
    assert any(line.startswith("to finish 3000: python -m vlaeval_hpc resume ") for line in lines)
    assert "20000: model.checkpoint: 20000: no such file" in lines


def test_csv(folder: SweepFolder) -> None:
    write_sweep(folder)
    rows = list(csv.DictReader(folder.csv.open()))
    assert [r["task"] for r in rows[:4]] == ["*", "task-0", "task-1", "task-2"]
    assert (rows[4]["label"], rows[4]["step"], rows[4]["rate"], rows[4]["n"]) == ("100", "100", "0.6", "90")
    assert len(rows) == 4 * 4 + 2


def test_points_that_do_not_pair_are_shown_and_not_compared(folder: SweepFolder, tmp_path: Path) -> None:
    points = folder.load()
    points.add(Point("x", [], None, folder.link(run(tmp_path / "x", 0.5, seed=8))))
    folder.save(points)
    found = read_sweep(folder)
    assert found["points"][-1]["rate"] == 0.5 and found["letters"] == {} and found["best"] is None
    assert "not compared: x does not pair with 0: seed is 8, not 7" in found["caution"]


def test_a_point_whose_episodes_all_broke_keeps_no_other_from_being_compared(
    folder: SweepFolder, tmp_path: Path
) -> None:
    plan = made_plan(shards=1, episodes=30)
    sick = made_run(tmp_path / "sick", plan)
    write_journal(sick, plan, 0, [made_record(i, False, failure="simulator_crash") for i in plan.items[:6]])
    points = folder.load()
    points.add(Point("sick", [], None, folder.link(sick)))
    folder.save(points)
    found = read_sweep(folder)
    assert found["caution"][0] == "not compared, since none of their episodes completed: sick"
    assert list(found["letters"]) == ["0", "100", "1000", "3000"] and found["points"][-1]["letters"] == ""
    assert (found["points"][-1]["state"], found["points"][-1]["errors"]) == ("partial", 6)


def test_a_run_that_is_gone_waits(folder: SweepFolder, tmp_path: Path) -> None:
    (tmp_path / "r100" / "plan.json").unlink()
    assert read_sweep(folder)["points"][1]["state"] == "waiting"


def test_points_keep_their_order_and_their_names(tmp_path: Path) -> None:
    points = Points(["model.checkpoint"])
    for label, step in (("b", 20), ("last", None), ("a", 3)):
        points.add(Point(label, [], step))
    points.in_order()
    points.add(Point("b", ["again"], 20))
    assert [(p.label, p.overrides) for p in points.points] == [("a", []), ("b", ["again"]), ("last", [])]
    folder = SweepFolder(tmp_path / "s")
    assert not is_sweep(folder.root)
    folder.save(points)
    assert is_sweep(folder.root) and folder.load() == points


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not readable as JSON"), ('{"schema": 1}', "not a sweep's points"), ('{"schema": 99}', "schema 99")],
)
def test_points_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    folder = SweepFolder(tmp_path)
    folder.file.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        read_sweep(folder)
