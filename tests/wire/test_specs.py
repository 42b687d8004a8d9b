"""What fits, and how it is told that something does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs, action_dim, misfits

POSITION = Spec("position", 3, "delta_xyz", (-1.0, 1.0))
EULER = Spec("rotation", 3, "euler_xyz")
ANGLE = Spec("rotation", 3, "axis_angle")
EITHER = Spec("rotation", 3, "euler_xyz", accepts=("axis_angle", "euler_xyz"))
GRIPPER = Spec("gripper", 1, "binary_close_positive")
STATE = Spec("state", 8, "eef8")
RAW = Spec("raw", 0, "raw")
ARM: Specs = {"position": POSITION, "rotation": ANGLE, "gripper": GRIPPER}
SEEN: Specs = {"agentview": RGB, "wrist": RGB, "state": STATE, "language": LANGUAGE}


@given(
    st.builds(
        Spec,
        name=st.text(max_size=5),
        dims=st.integers(0, 1000),
        format=st.text(max_size=5),
        range=st.none() | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
        accepts=st.none() | st.lists(st.text(max_size=5), unique=True).map(lambda a: tuple(sorted(a))),
        description=st.text(max_size=5),
    )
)
def test_a_spec_comes_back(spec: Spec) -> None:
    assert Spec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"name": "a", "dims": 1},
        {"name": "a", "dims": "many", "format": "x"},
        {"name": "a", "dims": None, "format": "x"},
        {"name": "a", "dims": math.inf, "format": "x"},
        {"name": "a", "dims": 1, "format": "x", "range": [1]},
        {"name": "a", "dims": 1, "format": "x", "range": 5},
        {"name": "a", "dims": 1, "format": "x", "range": ["low", "high"]},
        {"name": "a", "dims": 1, "format": "x", "range": {}},
        {"name": "a", "dims": 1, "format": "x", "accepts": 5},
        [],
        "spec",
        None,
        3,
    ],
    ids=repr,
)
def test_what_is_no_spec_is_a_value_error(raw: Any) -> None:
    with pytest.raises(ValueError):
        Spec.from_dict(raw)


def test_an_action_is_as_long_as_its_components() -> None:
    assert action_dim(ARM) == 7
    assert action_dim({}) == 0


@pytest.mark.parametrize(
    ("policy", "benchmark"),
    [
        (ARM, ARM),
        ({}, ARM),
        (ARM, {}),
        ({"actions": RAW}, ARM),
        ({"actions": Spec("raw", 7, "raw")}, ARM),
        ({"rotation": ANGLE}, {"rotation": EITHER}),
        ({"rotation": EULER}, {"rotation": EITHER}),
        (ARM, {**ARM, "gripper": Spec("gripper", 1, "any")}),
    ],
)
def test_actions_that_fit(policy: Specs, benchmark: Specs) -> None:
    assert misfits(policy, benchmark, {}, {}) == []


@pytest.mark.parametrize(
    ("policy", "benchmark", "words"),
    [
        ({**ARM, "rotation": EULER}, ARM, ("rotation", "euler_xyz", "axis_angle")),
        (
            {"rotation": Spec("rotation", 4, "quaternion")},
            {"rotation": EITHER},
            ("quaternion", "axis_angle or euler_xyz"),
        ),
        ({"position": POSITION}, ARM, ("rotation", "position")),
        ({**ARM, "gripper": Spec("gripper", 2, GRIPPER.format)}, ARM, ("gripper", "2", "1")),
        ({**ARM, "torso": Spec("torso", 2, "height")}, ARM, ("9", "7")),
        ({"actions": Spec("raw", 6, "raw")}, ARM, ("6", "7")),
    ],
)
def test_actions_that_do_not_fit_are_told(policy: Specs, benchmark: Specs, words: tuple[str, ...]) -> None:
    told = "; ".join(misfits(policy, benchmark, {}, {}))
    assert all(word in told for word in ("action", *words)), told


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"state": STATE},
        {"wrist": RGB, "language": LANGUAGE},
        {"state": Spec("state", 0, "any"), "agentview": RGB},
        {"state": RAW},
        {"state": Spec("state", 8, "eef7", accepts=("eef8",))},
    ],
)
def test_observations_that_fit(wanted: Specs) -> None:
    assert misfits({}, {}, wanted, SEEN) == []


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"front": RGB}, ("front", "agentview")),
        ({"state": Spec("state", 8, "joints")}, ("state", "eef8", "joints")),
        ({"state": Spec("state", 9, "eef8")}, ("state", "8", "9")),
        ({"state": Spec("state", 8, "x", accepts=())}, ("state", "eef8")),
    ],
)
def test_observations_that_do_not_fit_are_told(wanted: Specs, words: tuple[str, ...]) -> None:
    told = "; ".join(misfits({}, {}, wanted, SEEN))
    assert all(word in told for word in ("observation", *words)), told
