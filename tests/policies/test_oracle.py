"""The expert for LIBERO's pick-and-place: on the simulator, as a user starts it, and what it makes of what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command
from tests.toys import merged, outcomes
from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.oracle import HELD, Oracle
from vlaeval_hpc.wire.specs import misfits

TASKS = ("pick up the salad dressing and place it in the basket", "pick up the butter and place it in the basket")


def test_it_wins(vlaeval: Command, libero_python: Path, tmp_path: Path) -> None:
    tasks = ",".join(f"'{task}'" for task in TASKS)
    done = vlaeval(
        *("model=scripted", "benchmark=libero", "benchmark.params.suite=libero_object", f"benchmark.tasks=[{tasks}]"),
        *("benchmark.episodes_per_task=1", "run=a"),
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(merged(tmp_path, "a"))
    assert {task for task, _ in found} == set(TASKS)
    assert all(dict(metrics)["success"] and failure is None for metrics, _, failure in found.values()), found


def seen(hand: Any, fingers: float = 0.08, told: str = TASKS[1], yaw: float = 0.0) -> dict[str, Any]:
    still = np.array([0.0, 0.0, 0.0, 1.0])
    half = np.pi * np.array([np.cos(yaw / 2), np.sin(yaw / 2), 0])  # upside down, turned by yaw
    return {
        "states": np.array([*hand, *half, fingers / 2, -fingers / 2]),
        "objects": {"butter_1": np.array([0.1, -0.2, 0.01, *still]), "basket_1": np.array([0, 0.25, 0, *still])},
        "task_description": told,
    }


def test_it_goes_there_grasps_and_carries() -> None:
    policy, session = Oracle(checkpoint=None), Session("a")
    assert not misfits(policy.action_spec, LIBERO.action_spec, policy.observation_spec, LIBERO.observation_spec)
    (first,) = policy.predict([seen((0, 0, 0.3))], [session])
    assert first[0] == 1 and first[1] == -1 and first[2] == -1 and first[6] == -1  # the butter's side, down, open
    for hand in ((0.1, -0.2, 0.135), (0.1, -0.2, 0.015)):
        (action,) = policy.predict([seen(hand)], [session])
        assert np.abs(action[:6]).max() < 1e-6
    for _ in range(16):
        (action,) = policy.predict([seen((0.1, -0.2, 0.015))], [session])
        assert action[6] == 1
    (lifting,) = policy.predict([seen((0.1, -0.2, 0.015), fingers=0.04)], [session])
    assert lifting[2] > 0 and not lifting[:2].any() and lifting[6] == 1
    policy.predict([seen((0.1, -0.2, 0.3), fingers=0.04)], [session])
    (carrying,) = policy.predict([seen((0.1, -0.2, 0.3), fingers=0.04)], [session])
    assert carrying[0] == -1 and carrying[1] == 1 and carrying[6] == 1
    # What slips is grasped again, from the other side.
    policy.predict([seen((0.1, -0.2, 0.3), fingers=HELD / 2)], [session])
    (again,) = policy.predict([seen((0.1, -0.2, 0.3))], [session])
    assert again[6] == -1 and abs(again[5]) == 1


@pytest.mark.parametrize("yaw", [-0.4, -0.1, 0.0, 0.2, 0.7])
def test_it_turns_the_hand_back(yaw: float) -> None:
    (action,) = Oracle(checkpoint=None).predict([seen((0, 0, 0.3), yaw=yaw)], [Session("a")])
    np.testing.assert_allclose(action[5], np.clip(-2 * yaw, -1, 1), atol=1e-9)


def test_other_tasks_are_told() -> None:
    policy = Oracle(checkpoint=None)
    with pytest.raises(ConfigurationError, match="knows no 'open the drawer'"):
        policy.predict([seen((0, 0, 0), told="open the drawer")], [Session("a")])
    with pytest.raises(ConfigurationError, match="sees no milk_1: there are basket_1, butter_1"):
        policy.predict([seen((0, 0, 0), told="pick up the milk and place it in the basket")], [Session("a")])
