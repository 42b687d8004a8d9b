"""The client of GR00T's servers, where pyzmq is, on a server of either dialect."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.policies.conftest import PEERS, Peer
from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.gr00t import Gr00t
from vlaeval_hpc.wire.specs import misfits

NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
PARAMETERS: dict[str, Any] = {
    "dim": 7,
    "cameras": {"image": "agentview", "wrist_image": "wrist"},
    "state": dict.fromkeys(NAMES[:-1], 1) | {"gripper": 2},
    "action": NAMES,
    "prompt": "annotation.human.action.task_description",
    "gripper": "open_unit",
    "timeout": 6.0,
}


def ask(python: Path, dialect: str, port: int, *told: str, token: str = "the-token") -> list[Any]:
    parameters = {**PARAMETERS, "url": f"tcp://127.0.0.1:{port}", "dialect": dialect}
    command = [str(python), str(PEERS / "gr00t_ask.py"), json.dumps(parameters), *told]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "GR00T_API_TOKEN": token}
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [found for found, _ in answers]


@pytest.mark.parametrize("dialect", ["n1.5", "n1.6"])
def test_both_dialects(outside_python: Path, peer: Peer, dialect: str) -> None:
    port = peer("gr00t_server.py", dialect)
    words = ("load", "go", "fail", "narrow", "pickle", "huge", "slow", "go")
    loaded, first, failed, narrow, *unread, slow, again = ask(outside_python, dialect, port, *words)
    assert loaded is None
    assert first == again == [[16, 7], [10, 20, 2, 3, 4, 5, 1], [10, 20, 2, 3, 4, 5, -1]]
    assert failed.startswith(f"RuntimeError: the GR00T server tcp://127.0.0.1:{port} failed: 'state.joint'")
    assert narrow.startswith("ValueError: GR00T gave no '") and "yaw'" in narrow and "roll" in narrow
    assert all(text.startswith(("InfrastructureError", "ValueError")) and "array" in text for text in unread), unread
    assert slow == f"InfrastructureError: the GR00T server tcp://127.0.0.1:{port} is lost: no answer in 6 s"


def test_a_wrong_token_and_nobody_there(outside_python: Path, peer: Peer) -> None:
    port = peer("gr00t_server.py", "n1.6")
    assert "Unauthorized" in ask(outside_python, "n1.6", port, "load", token="wrong")[0]
    peer.stop()
    assert (
        ask(outside_python, "n1.6", port, "load", "go")
        == [f"InfrastructureError: the GR00T server tcp://127.0.0.1:{port} is lost: no answer in 6 s"] * 2
    )


def test_it_is_described_without_pyzmq() -> None:
    policy = Gr00t(checkpoint=None, url="tcp://host", dialect="n1.6", **PARAMETERS)
    theirs = LIBERO
    assert not misfits(policy.action_spec, theirs.action_spec, policy.observation_spec, theirs.observation_spec)
    with pytest.raises(ConfigurationError, match="pyzmq"):
        policy.load()
    with pytest.raises(ConfigurationError, match=r"model\.params\.dialect"):
        Gr00t(checkpoint=None, url="tcp://host", dialect="n2", **PARAMETERS)


def test_arrays_by_columns_are_read() -> None:
    from vlaeval_hpc.policies.gr00t import _array, _array_map

    for array in (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float32(3)[None][0:0], np.zeros((), np.int8)):
        read = _array(_array_map(np.asarray(array))["as_npy"])
        assert np.array_equal(read, array) and read.dtype == np.asarray(array).dtype
