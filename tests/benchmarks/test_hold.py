"""Hold actions of benchmarks that need no simulator to say theirs."""

from __future__ import annotations

import numpy as np
import pytest

from vlaeval_hpc.benchmarks.hold import repeat, stay
from vlaeval_hpc.benchmarks.kinetix import Kinetix
from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.benchmarks.metaworld import MetaWorld
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.wire.specs import Spec

ARM = {"position": Spec("position", 3, "delta_xyz"), "gripper": Spec("gripper", 1, "binary_close_positive")}
TWO = {**ARM, "position2": ARM["position"], "gripper2": ARM["gripper"]}


def test_deltas_stay_and_grippers_hold() -> None:
    assert stay(ARM, None).tolist() == [0, 0, 0, -1]
    assert stay(TWO, np.arange(1.0, 9.0)).tolist() == [0, 0, 0, 4, 0, 0, 0, 8]


def test_targets_are_repeated() -> None:
    last = np.array([1.0, 2.0, 3.0, 1.0], dtype=np.float32)
    held = repeat(ARM, last)
    assert held.tolist() == last.tolist() and held is not last
    assert repeat(ARM, None).tolist() == [0, 0, 0, 0]


def test_benchmarks_say_it() -> None:
    moving = np.full(7, 0.5)
    assert MetaWorld(seed=0).hold(moving[:4]).tolist() == [0, 0, 0, 0.5]
    assert Kinetix(seed=0).hold(moving[:6]).tolist() == [0.5] * 6
    assert LIBERO(seed=0, suite="libero_goal").hold(moving).tolist() == [0] * 6 + [0.5]
    absolute = LIBERO(seed=0, suite="libero_goal", control="absolute")
    assert absolute.hold(moving).tolist() == moving.tolist()
    with pytest.raises(ConfigurationError, match="wait_first_action=true"):
        absolute.hold(None)
