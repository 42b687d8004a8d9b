"""`compare`: over run directories and files, as a table, as JSON, and as a gate."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.results.made import made_plan, made_record, made_run, shard_content, write_journal, write_shards
from vlaeval_hpc.cli.compare import main
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.export import merge_into_files, write_json_file
from vlaeval_hpc.results.merge import merge_files
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Item

Won = Callable[[Item], bool]


def finished(root: Path, won: Won, failing: int = 0, max_steps: int = 50) -> RunDirectory:
    """A run of 3 tasks x 20 episodes."""
    plan = made_plan(shards=2, episodes=20)
    plan = replace(plan, benchmark={**plan.benchmark, "max_steps": max_steps})
    run = made_run(root, plan)
    for shard in range(2):
        records = [
            made_record(i, won(i), failure="simulator_crash" if n < failing else None)
            for n, i in enumerate(plan.assigned(shard))
        ]
        write_journal(run, plan, shard, records)
    return run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "a", lambda i: i.episode < 10)
    finished(tmp_path / "b", lambda i: i.episode < 14)
    finished(tmp_path / "c", lambda i: i.episode < 6)
    finished(tmp_path / "d", lambda i: 1 <= i.episode < 11 + (i.task == "task-1"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("a b", 0),
        ("a c", 3),
        ("a d", 1),
        ("b a --baseline a", 0),
        ("a b c", 3),
        ("a b d", 1),
        ("a b --min-difference 5", 0),
        ("a b --min-difference 15", 1),
        ("a b --min-difference 45", 3),
        ("a d --min-difference -10", 0),
        ("a b --alpha 1e-6", 1),
        ("./a b --baseline ./a", 0),
    ],
)
def test_a_gate(runs: Path, capsys: pytest.CaptureFixture[str], arguments: str, status: int) -> None:
    assert main(arguments.split()) == status
    assert "verdict" in capsys.readouterr().out


def test_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a", "b", "d", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["baseline"], found["metric"], found["rate"]) == ("a", "success", True)
    assert [r["name"] for r in found["runs"]] == ["a", "b", "d"]
    pair = found["pairs"][0]
    assert (pair["verdict"], pair["n"], pair["gained"], pair["lost"]) == ("better", 60, 12, 0)
    assert pair["flips"][0] == ["task-0", 10, "gained"] and len(pair["interval"]) == 2
    assert {row["task"] for row in pair["tasks"]} == {"task-0", "task-1", "task-2"}


def test_flips(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["a", "b", "--flips"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-2:]] == [["b", "task-2", "12", "gained"], ["b", "task-2", "13", "gained"]]


def test_the_videos_of_flips(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that were recorded, and are still there."""
    for name in ("a", "b"):
        run = RunDirectory(name)
        merge_into_files(run)
        content = json.loads(run.merged.read_text())
        for task in content["tasks"]:
            for episode in task["episodes"]:
                episode["video"] = f"videos/{task['task']}/{episode['episode_id']:04}.mp4"
        run.merged.write_text(json.dumps(content))
        os.utime(run.merged, (4e9, 4e9))
        (run.videos / "task-0").mkdir(parents=True)
        (run.videos / "task-0" / "0010.mp4").touch()
    assert main(["a", "b", "--json"]) == 0
    pair = json.loads(capsys.readouterr().out)["pairs"][0]
    assert pair["videos"][:2] == [[f"{name}/videos/task-0/0010.mp4" for name in ("a", "b")], [None, None]]
    main(["a", "b", "--flips"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["a/videos/task-0/0010.mp4", "b/videos/task-0/0010.mp4"]


def test_merged_files_and_stale_ones(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory("b")
    merge_into_files(run)
    content = json.loads(run.merged.read_text())
    for task in content["tasks"]:
        for episode in task["episodes"]:
            episode["metrics"]["success"] = True
    run.merged.write_text(json.dumps(content))
    os.utime(run.merged, (4e9, 4e9))
    assert main(["a", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["gained"] == 30  # merged.json is read as it is
    os.utime(run.merged, (1e9, 1e9))
    assert main(["a", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["gained"] == 12  # the journals are newer
    os.utime(run.merged, (4e9, 4e9))
    run.merged.write_text("{")
    assert main(["a", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["gained"] == 12  # it is torn
    merge_into_files(run)
    assert main(["a", "b/merged.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["name"] == "b"


def test_vla_evals_files(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, least in (("x", 3), ("y", 0)):
        episodes: list[Any] = [("t", {"episode_id": i, "metrics": {"success": i % 7 >= least}}) for i in range(70)]
        paths = write_shards(runs / f"{name}-shards", [shard_content(0, 1, episodes)])
        write_json_file(runs / f"{name}.json", merge_files(paths))
    assert main(["x.json", "y.json"]) == 0
    assert "y.json" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="y.json does not pair with a: benchmark is 'Made', not 'made'"):
        main(["a", "y.json"])


def test_a_partial_run_is_compared_where_it_is(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(runs / "e", lambda i: i.episode < 14, failing=5)
    run = made_run(
        runs / "f", replace(made_plan(2, episodes=20), benchmark={"metrics": {"success": "mean"}, "seed": 7})
    )
    plan = made_plan(2, episodes=20)
    write_journal(run, plan, 0, [made_record(i) for i in plan.assigned(0) if i.task != "task-1"])
    main(["a", "e", "f"])
    text = capsys.readouterr().out
    assert "e: 10 episodes left out: simulator_crash 10" in text
    assert "f: 40 episodes left out: not there 40" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("a", "two runs or more"),
        ("a nowhere", "nowhere: no such folder"),
        ("a .", "not a run directory"),
        ("a a/../a", "a run comes twice"),
        ("a b --baseline x", "unknown baseline 'x'"),
        ("a b --metric sucess", "did you mean success"),
        ("a b --metric steps", "unknown metric 'steps': .*valid: success"),
        ("a b --alpha 2", "alpha 2: valid: between 0 and 1"),
        ("a b --alpha much", "invalid float value: 'much'"),
        ("a b --min-difference 200", "between -100 and 100 points"),
        ("a b --unpaired", "unrecognized arguments: --unpaired"),
        ("a a/plan.json", "not a merged result: no 'merge_info'"),
        ("a short", "short does not pair with a: max_steps is 20, not 50"),
    ],
)
def test_refused_in_one_line(runs: Path, arguments: str, words: str) -> None:
    finished(runs / "short", lambda i: True, max_steps=20)
    with pytest.raises(ConfigurationError, match=words) as refused:
        main(arguments.split())
    assert "\n" not in str(refused.value)


def test_flips_of_what_is_no_rate(runs: Path) -> None:
    for name in ("g", "h"):
        plan = made_plan(1, metrics={"progress": "mean"})
        write_journal(
            made_run(runs / name, plan), plan, 0, [made_record(i, metrics={"progress": 0.5}) for i in plan.items]
        )
    with pytest.raises(ConfigurationError, match="--flips: progress is no rate"):
        main(["g", "h", "--metric", "progress", "--flips"])


def test_names_that_are_alike_are_told_in_full(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(runs / "old" / "a", lambda i: i.episode < 10)
    main(["a", "old/a", "--json"])
    assert [r["name"] for r in json.loads(capsys.readouterr().out)["runs"]] == ["a", "old/a"]


def test_scipy_waits_until_it_is_needed() -> None:
    code = (
        "import sys, vlaeval_hpc.cli.status, vlaeval_hpc.cli.compare; assert not {'scipy', 'numpy'} & set(sys.modules)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
