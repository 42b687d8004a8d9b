"""`vlaeval_hpc.evaluate`: an object of this process, on the same episodes as by the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlaeval_hpc
from tests.conftest import ROOT, TESTS, Command
from tests.toys import TOY, merged, outcomes
from vlaeval_hpc.errors import ConfigurationError

WORDS = [f"hydra.searchpath=[file://{TESTS / 'conf'}]"]


@pytest.fixture
def pilot(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TESTS))
    from doubles.pilot import Pilot

    return Pilot(checkpoint=None, chunk=3)


def test_episodes_are_those_of_the_command_line(vlaeval: Command, tmp_path: Path, pilot: Any) -> None:
    done = vlaeval(*TOY, "run=a", "model.params.chunk=3")
    assert done.returncode == 0, done.stdout + done.stderr
    given = vlaeval_hpc.evaluate(pilot, "toy", [*WORDS, "model.max_batch_size=8"], results=tmp_path / "own", name="s1")
    assert outcomes(given.merged) == outcomes(merged(tmp_path, "a"))
    assert given.folder == tmp_path / "own" / "s1" and (given.folder / "merged.json").exists()
    assert set(given.tasks) == {"task-0", "task-1"}
    assert given.interval[0] <= given.success == given.merged["mean_success"] <= given.interval[1]
    with pytest.raises(ConfigurationError, match="s1 is there already"):
        vlaeval_hpc.evaluate(pilot, "toy", WORDS, results=tmp_path / "own", name="s1")


def test_a_function_in_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown: list[list[str]] = []

    def act(seen: dict[str, Any]) -> Any:
        shown.append(sorted(seen))
        return -seen["states"][:2] if "states" in seen else np.zeros(2)

    found: list[vlaeval_hpc.inprocess.Result] = []
    words = [*WORDS, "benchmark.max_tasks=1", "cluster.shards=1"]
    thread = threading.Thread(
        target=lambda: found.append(vlaeval_hpc.evaluate(act, "toy", words, observe=["state", "front"]))
    )
    thread.start()
    thread.join(60)
    assert found[0].merged["num_episodes"] == 3 and found[0].folder is None
    assert all(names == ["images", "states", "task_description"] for names in shown) and list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_told(pilot: Any) -> None:
    for given, words, more, told in (
        (pilot, ["cluster=slurm"], {}, "evaluate works on this machine: cluster=local"),
        (pilot, [], {"observe": ["state"]}, "observe is for a function"),
        (len, [], {"observe": ["side"]}, "does not fit benchmark=toy: .*the policy wants 'side'"),
        (len, ["benchmark.tasks=[x]"], {}, "unknown task 'x'"),
        (len, ["benchmark.task=[x]"], {}, "unknown key 'benchmark.task': did you mean benchmark.tasks"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            vlaeval_hpc.evaluate(given, "toy", [*WORDS, *words], **more)  # type: ignore[arg-type]


def test_a_policy_that_fails_is_an_episodes_failure() -> None:
    def act(_: object) -> Any:
        raise RuntimeError("lost")

    words = [*WORDS, "benchmark.max_tasks=1", "benchmark.episodes_per_task=1"]
    assert vlaeval_hpc.evaluate(act, "toy", words).merged["failure_reasons"] == {"policy_error": 1}


def test_importing_the_package_is_light() -> None:
    said = "import sys, vlaeval_hpc; print([m for m in sys.modules if m in ('hydra', 'numpy', 'websockets')])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
    with pytest.raises(AttributeError):
        _ = vlaeval_hpc.evaluation


def test_the_examples_of_the_docs(metaworld_python: Path, tmp_path: Path) -> None:
    """The page's own code, in one process, as a training script that uses Hydra itself."""
    page = (ROOT / "docs" / "how-to" / "training-loop.md").read_text()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    (tmp_path / "train.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "train.py"], capture_output=True, text=True, cwd=tmp_path, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^step 0: 0 %.*\nstep 3000: (50|75|100) %.*\n$", done.stdout), done.stdout
