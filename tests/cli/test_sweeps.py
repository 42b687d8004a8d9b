"""`run -m` on this machine: one folder, the same again resumes, points that fail do not stop the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.toys import TOY, journal


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    folder = tmp_path / "ckpt"
    folder.mkdir()
    for step in (100, 20):
        (folder / f"step-{step}").write_text(str(step))
    return folder


def only_sweep(folder: Path) -> tuple[Path, dict[str, Any]]:
    (found,) = (folder / "results" / "sweeps").iterdir()
    return found, json.loads((found / "sweep.json").read_text())


def test_a_sweep_resumes_and_grows(vlaeval: Command, tmp_path: Path, checkpoints: Path) -> None:
    glob = (*TOY, "model.checkpoint=glob(ckpt/*)", "-m")
    done = vlaeval(*glob)
    assert done.returncode == 0, done.stdout + done.stderr
    root, found = only_sweep(tmp_path)
    assert [(p["label"], p["step"], p["state"], p["n"]) for p in found["points"]] == [
        ("step-20", 20, "done", 6),
        ("step-100", 100, "done", 6),
    ]
    assert root.name.startswith("pilot_toy_") and (root / "sweep.csv").is_file()
    runs = [(root / p["run"]).resolve() for p in found["points"]]
    seeds = [[(e["task"], e["episode"], e["seed"]) for e in json.loads((r / "plan.json").read_text())["items"]]
             for r in runs]  # fmt: skip
    assert seeds[0] == seeds[1]  # so that points pair
    table = done.stdout.splitlines()
    head = next(i for i, line in enumerate(table) if line.startswith("model.checkpoint"))
    assert [line.split()[0] for line in table[head + 1 : head + 3]] == ["step-20", "step-100"]

    (checkpoints / "step-3").write_text("3")
    done = vlaeval(*glob)
    assert done.returncode == 0 and done.stdout.count("all were finished before") == 2, done.stdout + done.stderr
    root, found = only_sweep(tmp_path)
    assert [p["label"] for p in found["points"]] == ["step-3", "step-20", "step-100"]
    assert all(len(journal(tmp_path, run.name)) == 6 for run in runs)


def test_a_point_that_fails_is_shown_with_the_command_that_finishes_it(
    vlaeval: Command, tmp_path: Path, checkpoints: Path
) -> None:
    sweep = (*TOY, "model.checkpoint=ckpt/step-100,ckpt/step-20,ckpt/step-7", "run=s", "-m")
    shown = vlaeval(*sweep, "--dry-run")
    assert shown.returncode == 1 and shown.stdout.count("would run 6 episodes") == 2, shown.stdout + shown.stderr
    assert not (tmp_path / "results").exists()
    done = vlaeval(*sweep)
    assert done.returncode == 1
    assert "error: step-7: model.checkpoint: ckpt/step-7: no such file" in done.stdout
    root, found = only_sweep(tmp_path)
    assert root.name == "s" and [p["state"] for p in found["points"]] == ["failed", "done", "done"]
    resume = found["points"][0]["resume"].split()[3:]
    assert f"to finish step-7: python -m vlaeval_hpc {' '.join(resume)}" in done.stdout
    (checkpoints / "step-7").write_text("7")
    done = vlaeval(*resume)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [p["state"] for p in only_sweep(tmp_path)[1]["points"]] == ["done"] * 3
    # A run of it that is gone waits, and its files tell.
    shutil.rmtree((root / found["points"][1]["run"]).resolve())
    status = vlaeval("status", str(root))
    assert status.returncode == 0 and status.stdout.splitlines()[2].endswith("waiting"), status.stdout + status.stderr
    assert vlaeval("merge", str(root), "--json").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.checkpoint=glob(ckpt/*)"], ["model.checkpoint=glob(ckpt/*)", "a sweep needs -m"]),
        (["model.checkpoint=glob(nowhere/*)", "-m"], ["nowhere", "nothing there matches"]),
        (["model.params.chunk=1,1", "-m"], ["model.params.chunk: 1 comes twice"]),
        (["sweep.stop=soon", "model.params.chunk=1,2", "-m"], ["unknown sweep.stop 'soon'", "early, never"]),
        (["model.chekpoint=1,2", "-m"], ["unknown key 'model.chekpoint'"]),
    ],
)
def test_refused_in_one_line(
    vlaeval: Command, tmp_path: Path, checkpoints: Path, arguments: list[str], words: list[str]
) -> None:
    done = vlaeval(*TOY, *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_point_that_is_clearly_worse_is_stopped(vlaeval: Command, tmp_path: Path) -> None:
    """Its policy gives no action that is one; the other runs to the end. What is declared cannot be changed."""
    sweep = (*TOY, "model.params.fault='','nan'", "benchmark.params.tasks=20", "benchmark.episodes_per_task=2", "run=s")
    done = vlaeval(*sweep, "sweep.stop=early", "-m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nan: clearly worse than another, stopped after 20 episodes" in done.stdout
    assert [(p["state"], p["n"]) for p in only_sweep(tmp_path)[1]["points"]] == [("done", 40), ("stopped", 20)]
    again = vlaeval(*sweep, "sweep.stop=early", "-m")
    assert again.returncode == 0 and "stopped after" not in again.stdout, again.stdout + again.stderr
    assert [(p["state"], p["n"]) for p in only_sweep(tmp_path)[1]["points"]] == [("done", 40), ("stopped", 20)]
    changed = vlaeval(*sweep, "-m")
    assert changed.returncode == 2 and "was started with early" in changed.stderr
