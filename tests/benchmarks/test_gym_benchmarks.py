"""PushT and ALOHA: frames, states and outcomes are those of gym-pusht and gym-aloha, rendered only where looked at.

Each simulator runs in its own environment, by gym_checks.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.checks import OSMESA, Answer, checks
from tests.conftest import Command, benchmark_environment
from tests.toys import merged, outcomes
from vlaeval_hpc.benchmarks.aloha import ALOHA, TASKS
from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.benchmarks.pusht import PushT
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.environment import interpreter

CHECKS = Path(__file__).with_name("gym_checks.py")


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, Answer]]:
    """Everything asked of both; each waits for its answer."""
    pusht, aloha = (interpreter(benchmark_environment(name), name, print) for name in ("pusht", "aloha"))
    with checks(CHECKS, {}) as ask:
        yield {
            "aloha": ask(aloha, "aloha", **OSMESA),
            "pusht": ask(pusht, "pusht", **OSMESA),
            "aloha_blind": ask(aloha, "aloha_blind"),
        }


def test_pusht_is_gym_pusht(answers: dict[str, Answer]) -> None:
    found = answers["pusht"]()
    assert found["ours"] == found["theirs"]
    assert found["blind"] == [[[state] for _, state in found["ours"][0][0]], found["ours"][0][1]]
    assert found["ours"][0] != found["ours"][1]
    assert len({frame for frame, _ in found["ours"][0][0]}) == 8
    assert found["shape"] == [96, 96, 3, "uint8", 2]
    assert found["words"] == "Push the T-shaped block onto the T-shaped target."


def test_pusht_is_won_at_95_percent(answers: dict[str, Answer]) -> None:
    found = answers["pusht"]()
    assert found["covered"] == [True, {"success": True, "max_reward": 1.0}]
    assert found["after"] == [True, True]


def test_aloha_is_gym_aloha(answers: dict[str, Answer]) -> None:
    found = answers["aloha"]()
    assert [task["name"] for task in found["tasks"]] == list(TASKS)
    assert found["ours"] == found["theirs"]
    assert found["shape"] == [480, 640, 3, "uint8", True]


def test_aloha_without_a_camera_needs_no_gl(answers: dict[str, Answer]) -> None:
    found = answers["aloha_blind"]()
    assert found["MUJOCO_GL"] == "disabled" and found["mapped"] == []
    assert found["states"] == [[state] for _, state in answers["aloha"]()["ours"][0][0]]
    assert found["ends"] == [
        [False, {"success": False, "max_reward": 0}],
        [False, {"success": False, "max_reward": 2}],
        [False, {"success": False, "max_reward": 2}],
        [True, {"success": True, "max_reward": 4}],
        [True, {"success": True, "max_reward": 4}],
    ]


@pytest.mark.parametrize(("kind", "package"), [(PushT, "gym-pusht==0.1.8"), (ALOHA, "gym-aloha==0.1.5")])
def test_missing_packages_are_named(kind: type[Benchmark], package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=f"not installed for {sys.executable}: install {package}"):
        kind(seed=0).tasks()
    with pytest.raises(ConfigurationError, match="gives no 'wrist': valid: top, state, language"):
        kind(seed=0).select(["wrist"])


def test_unknown_task_is_named() -> None:
    with pytest.raises(ConfigurationError, match="unknown ALOHA task 'insert': did you mean insertion"):
        ALOHA(seed=0).reset({"name": "insert", "instruction": ""}, 0)


def test_a_run(vlaeval: Command, tmp_path: Path) -> None:
    words = ("model=random", "benchmark=pusht", "benchmark.episodes_per_task=4", "benchmark.max_steps=40")
    looks = "model.params.observe=[top,state]", "model.params.chunk=8"
    for name, shards in (("one", 1), ("two", 2)):
        done = vlaeval(*words, *looks, f"run={name}", f"cluster.shards={shards}", timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "one")) == outcomes(merged(tmp_path, "two"))
    assert 0 <= merged(tmp_path, "one")["mean_max_reward"] <= 1
