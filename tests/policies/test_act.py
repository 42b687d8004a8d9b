"""The client of `POST /act`, on a server that speaks with json_numpy itself."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.policies.conftest import Peer
from tests.wire.values import arrays, same
from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.policies.act import Act, ee6d_actions, from_json, to_json
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.wire.specs import misfits

PARAMETERS: dict[str, dict[str, Any]] = {
    "openvla": {"crop": 0.9, "extra": {"unnorm_key": "libero_spatial"}, "gripper": "open_unit"},
    "oft": {"state_dim": 8, "gripper": "open_unit"},
    "xvla": {"state_dim": 8, "turn": ["wrist"], "extra": {"domain_id": 3, "steps": 10}},
}


def client(dialect: str, port: int, **more: Any) -> Act:
    url = f"http://127.0.0.1:{port}"
    parameters: dict[str, Any] = {"dim": 7, "cameras": ["agentview", "wrist"], **PARAMETERS[dialect], **more}
    return Act(checkpoint=None, url=url, dialect=dialect, **parameters)


def ask(policy: Act, told: str = "go") -> NDArray[Any]:
    wrist = np.zeros((256, 256, 3), np.uint8)
    wrist[-1, -1] = 255
    images = {"agentview": np.full((256, 256, 3), 10, np.uint8), "wrist": wrist}
    seen = {"images": images, "states": np.arange(8, dtype=np.float64), "task_description": told}
    return policy.predict([seen], [Session("a")])[0]


def test_openvla(peer: Peer) -> None:
    policy = client("openvla", peer("act_server.py", "openvla"))
    policy.load()
    assert set(policy.observation_spec) == {"agentview", "language"}
    chunk = ask(policy)
    assert chunk.dtype == np.float32
    assert chunk.tolist() == [[10, 0, 0, 0, 0, 2, 1]]  # a gripper hardly open: to be closed


def test_oft(peer: Peer) -> None:
    policy = client("oft", peer("act_server.py", "oft"))
    theirs = LIBERO
    assert not misfits(policy.action_spec, theirs.action_spec, policy.observation_spec, theirs.observation_spec)
    chunk = ask(policy)
    np.testing.assert_allclose(chunk[0], [10, 255 / 256**2, 28, 0, 0, 0, -1], rtol=1e-6)
    assert chunk.shape == (2, 7) and chunk[1, -1] == 1


def test_xvla(peer: Peer) -> None:
    policy = client("xvla", peer("act_server.py", "xvla"))
    chunk = ask(policy)
    assert chunk.shape == (30, 7)
    np.testing.assert_allclose(chunk[0], [0, 1, 2, 0, 0, np.pi / 2, 1], atol=1e-6)
    # It says where to go, LIBERO's controller takes how far: refused, not run wrong.
    wrong = misfits(policy.action_spec, LIBERO.action_spec, policy.observation_spec, LIBERO.observation_spec)
    assert any("absolute_xyz" in line for line in wrong)


@pytest.mark.parametrize(
    ("dialect", "told", "error", "says"),
    [
        ("oft", "fail", RuntimeError, "says only: error"),
        ("xvla", "fail", RuntimeError, "answered 400: .*Request failed"),
        ("oft", "404", RuntimeError, "answered 404"),
        ("oft", "narrow", ValueError, r"shape \(1, 6\)"),
        ("xvla", "narrow", RuntimeError, "failed: array"),
        ("oft", "pickle", ValueError, "dtype"),
        ("oft", "deep", ValueError, "not json_numpy's"),
        ("oft", "long", ValueError, "more than"),
        ("oft", "cut", InfrastructureError, "is lost"),
        ("oft", "slow", InfrastructureError, "no answer in time"),
        ("oft", "drip", InfrastructureError, "is lost"),
    ],
)
def test_what_goes_wrong_is_told(peer: Peer, dialect: str, told: str, error: type[Exception], says: str) -> None:
    policy = client(dialect, peer("act_server.py", dialect), timeout=6.0)
    with pytest.raises(error, match=says):
        ask(policy, told)


def test_nobody_there() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        policy = client("oft", bound.getsockname()[1])
        for attempt in (policy.load, lambda: ask(policy)):
            with pytest.raises(InfrastructureError, match="is lost: ConnectionRefused"):
                attempt()


@pytest.mark.parametrize("wrong", [{"dialect": "tf"}, {"crop": 1.5}, {"gripper": "open"}, {"dim": 0}], ids=str)
def test_wrong_parameters_are_told_at_once(wrong: dict[str, Any]) -> None:
    parameters: dict[str, Any] = {"url": "http://h:1", "dialect": "oft", "dim": 7, "cameras": ["a"], **wrong}
    with pytest.raises(ConfigurationError, match=rf"model\.params\.{next(iter(wrong))}"):
        Act(checkpoint=None, **parameters)


@given(arrays())
@settings(max_examples=50, deadline=None)
def test_arrays_travel_as_they_are(array: NDArray[Any]) -> None:
    assert same(from_json(to_json({"a": [array]}).encode()), {"a": [array]})


@given(st.integers(0, 10**6), st.floats(0, np.pi))
@settings(max_examples=100, deadline=None)
def test_rotations_come_back(seed: int, angle: float) -> None:
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    turn = ee6d_actions(np.r_[np.zeros(3), matrix[:, 0], matrix[:, 1], np.zeros(11)][None])[0, 3:6]
    assert np.linalg.norm(turn) <= np.pi + 1e-9
    sign = np.sign(turn @ axis) if angle > 3.14 else 1  # at half a turn both axes are right
    np.testing.assert_allclose(sign * turn, angle * axis, atol=1e-6)
