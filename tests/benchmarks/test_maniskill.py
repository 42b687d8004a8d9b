"""ManiSkill3 on the CPU: frames and states are ManiSkill's own, rendered by Mesa's lavapipe.

The simulator runs in its own environment, by maniskill_checks.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.checks import Answer, checks
from tests.benchmarks.lavapipe import lavapipe
from tests.conftest import Command, benchmark_environment
from tests.policies.conftest import torch_cpu
from vlaeval_hpc.benchmarks.maniskill import ManiSkill
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.environment import interpreter
from vlaeval_hpc.wire.specs import action_dim

CHECKS = Path(__file__).with_name("maniskill_checks.py")


@pytest.fixture(scope="module")
def vulkan() -> dict[str, str]:
    return lavapipe()


@pytest.fixture(scope="module")
def python() -> Path:
    with torch_cpu():
        return interpreter(benchmark_environment("maniskill"), "maniskill", print)


@pytest.fixture(scope="module")
def answers(python: Path, vulkan: dict[str, str]) -> Iterator[dict[str, Answer]]:
    with checks(CHECKS, vulkan) as ask:
        yield {verb: ask(python, verb) for verb in ("frames", "no_vulkan")}


def test_observations_are_those_of_maniskill(answers: dict[str, Answer]) -> None:
    found = answers["frames"]()
    for name in ("PickCube-v1", "PushT-v1"):
        ours, theirs, faults = found[name]
        assert ours == theirs and faults == []
        assert len({frame for frame, _ in ours[0]}) > 1
    assert found["frame"] == [64, 64, 3, "uint8", True]


def test_the_first_success_is_the_end(answers: dict[str, Answer]) -> None:
    found = answers["frames"]()
    assert found["won"] == [True, True, True]
    assert found["limit"] == [False, True, True, False]


def test_without_vulkan_it_is_told(answers: dict[str, Answer]) -> None:
    assert str(answers["no_vulkan"]()).startswith("ManiSkill finds nothing to render on (")


def test_it_keeps_its_promises(vlaeval: Command, python: Path, vulkan: dict[str, str]) -> None:
    tasks = "benchmark.tasks=[PegInsertionSide-v1,StackCube-v1]"
    done = vlaeval("check", "--steps", "9", "benchmark=maniskill", tasks, timeout=1200, **vulkan)
    assert done.returncode == 0 and "8 checks, all ok" in done.stdout, done.stdout + done.stderr


def test_specs_and_wrong_names(monkeypatch: pytest.MonkeyPatch) -> None:
    panda, stick = ManiSkill(seed=0), ManiSkill(seed=0, suite="stick")
    assert (action_dim(panda.action_spec), action_dim(stick.action_spec)) == (7, 6)
    assert (panda.max_steps, len(panda.hold(None)), panda.hold(None)[-1]) == (100, 7, 1.0)
    with pytest.raises(ConfigurationError, match="unknown benchmark.params.suite 'pandas': did you mean panda"):
        ManiSkill(seed=0, suite="pandas")
    with pytest.raises(ConfigurationError, match=r"unknown benchmark.params.render 'tpu'.*valid: cpu, gpu"):
        ManiSkill(seed=0, render="tpu")
    with pytest.raises(ConfigurationError, match="unknown task of panda 'PickCube': did you mean PickCube-v1"):
        panda.reset({"name": "PickCube", "instruction": ""}, 0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=f"not installed for {sys.executable}: install mani-skill==3.0.1"):
        panda.tasks()
