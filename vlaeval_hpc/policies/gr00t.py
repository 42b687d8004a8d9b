"""A client of GR00T's inference servers over ZeroMQ (github.com/NVIDIA/Isaac-GR00T: N1.5, N1.6, N1.7)."""

from __future__ import annotations

import io
import math
import os
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError, unknown
from vlaeval_hpc.policies import outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire import codec
from vlaeval_hpc.wire.codec import WireError

DIALECTS = ("n1.5", "n1.6")
"""n1.5: gr00t/eval/service.py, flat keys, no batch. n1.6, N1.7 too: gr00t/policy/server_client.py, maps by modality,
arrays (batch, time, ...); the server runs without --use-sim-policy-wrapper."""

PING_TIMEOUT = 10.0


class ToldAsGr00t(Policy):
    """What GR00T is told and gives, wherever it runs, in the embodiment's own names.

    `cameras` maps its video keys to the benchmark's cameras, `state` its state keys to how many numbers of the
    benchmark's state each takes, in order, `action` is its action keys in the order of the benchmark's action, `prompt`
    its language key. `dim` is the numbers in an action. `gripper`: see outside.GRIPPERS.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        dim: int,
        cameras: dict[str, str],
        state: dict[str, int],
        action: list[str],
        prompt: str,
        gripper: str = "as_is",
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        if not action:
            raise ConfigurationError("model.params.action: names no part of the action")
        self._dim = dim
        self._cameras = cameras
        self._state = state
        self._action = action
        self._prompt = prompt
        self._gripper = outside.check_gripper(gripper)
        self.action_spec = outside.gives(dim)
        self.observation_spec = outside.looks(cameras.values(), sum(state.values()))

    def _told(self, observations: list[Observation]) -> dict[str, Any]:
        """Maps by modality, of arrays (batch, time, ...)."""
        video = {
            key: np.stack([seen["images"][camera] for seen in observations])[:, None]
            for key, camera in self._cameras.items()
        }
        state = {}
        if self._state:
            states = np.stack([np.asarray(seen["states"], np.float32) for seen in observations])[:, None]
            parts = np.split(states, np.cumsum(list(self._state.values()))[:-1], axis=-1)
            state = dict(zip(self._state, parts, strict=True))
        told = [[seen["task_description"]] for seen in observations]
        return {"video": video, "state": state, "language": {self._prompt: told}}

    def _chunks(self, given: Any) -> list[NDArray[np.floating[Any]]]:
        """What it gave, by action key arrays (batch, k, numbers), as a chunk (k, dim) for each observation."""
        if not isinstance(given, dict):
            raise ValueError(f"GR00T gave no actions: {given!r:.200}")
        parts = []
        for key in self._action:
            part = np.asarray(given.get(key))
            if part.ndim != 3 or not len(part):
                had = {k: np.shape(v) for k, v in given.items()}
                raise ValueError(f"GR00T gave no '{key}' but {had} (model.params.action, .dialect)")
            parts.append(part)
        return [outside.actions(chunk, self._dim, self._gripper) for chunk in np.concatenate(parts, axis=-1)]


class Gr00t(ToldAsGr00t):
    """Asks the server at `url` (tcp://HOST:5555) for each observation, one after the other.

    An answer is waited for at most `timeout` seconds. A server that wants a token gets GR00T_API_TOKEN of the
    environment. Needs pyzmq. The rest: ToldAsGr00t.

    Raises InfrastructureError where the server does not answer, RuntimeError with what it says where it failed,
    ValueError where its answer holds no actions.
    """

    connection = frozenset(("url", "timeout"))

    def __init__(self, *, url: str, dialect: str, timeout: float = 100.0, **told: Any) -> None:
        super().__init__(**told)
        self._url = outside.address(url, ("tcp",), 5555).geturl()
        if dialect not in DIALECTS:
            raise unknown("model.params.dialect", dialect, DIALECTS)
        self._flat = dialect == "n1.5"
        self._timeout = timeout
        self._socket: Any = None

    def load(self) -> None:
        """Ask whether it is there. Raises InfrastructureError, ConfigurationError where pyzmq is missing."""
        self._call({"endpoint": "ping"}, PING_TIMEOUT)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [self._one(seen) for seen in observations]

    def _one(self, seen: Observation) -> NDArray[np.floating[Any]]:
        told = self._told([seen])
        if self._flat:
            flat = {f"{kind}.{key}": value[0] for kind in ("video", "state") for key, value in told[kind].items()}
            given = self._call({"endpoint": "get_action", "data": {**flat, self._prompt: [seen["task_description"]]}})
            return self._chunks(_batched(given))[0]
        given = self._call({"endpoint": "get_action", "data": {"observation": told, "options": None}})
        return self._chunks(given[0] if isinstance(given, list) and given else None)[0]  # [actions, info]

    def _call(self, request: dict[str, Any], most: float = math.inf) -> Any:
        timeout = min(most, self._timeout)
        zmq = _zmq()
        token = os.environ.get("GR00T_API_TOKEN")
        frame = codec.encode({**request, "api_token": token} if token else request, _array_map)
        if self._socket is None:
            self._socket = zmq.Context.instance().socket(zmq.REQ)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.MAXMSGSIZE, codec.MAX_FRAME)
            self._socket.connect(self._url)
        try:
            self._socket.send(frame)
            if not self._socket.poll(int(timeout * 1000), zmq.POLLIN):
                raise TimeoutError(f"no answer in {timeout:g} s")
            answer = codec.decode(self._socket.recv(), _Reader)
        except (TimeoutError, zmq.ZMQError, WireError) as error:
            # A REQ socket that got no answer can ask nothing more. ZeroMQ itself knows no lost connection.
            self._socket.close()
            self._socket = None
            raise InfrastructureError(f"the GR00T server {self._url} is lost: {error}") from error
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"the GR00T server {self._url} failed: {answer['error']!s:.2000}")
        return answer


def _batched(given: Any) -> Any:
    """N1.5's answer, action.KEY of (k,) or (k, numbers), as N1.6 names and shapes it."""
    if not isinstance(given, dict):
        return given
    parts = {key.removeprefix("action."): np.asarray(value) for key, value in given.items()}
    return {key: (part[:, None] if part.ndim == 1 else part)[None] for key, part in parts.items()}


def _zmq() -> Any:
    try:
        import zmq
    except ImportError as error:
        raise ConfigurationError(f"model=gr00t needs pyzmq in model.environment.requirements: {error}") from error
    return zmq


def _array_map(value: NDArray[Any]) -> dict[str, Any]:
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": stream.getvalue()}


class _Reader(codec.Reader):
    def map(self, value: dict[Any, Any]) -> Any:
        return _array(value["as_npy"]) if "__ndarray_class__" in value else super().map(value)


def _array(data: bytes) -> NDArray[Any]:
    """An .npy's array, read-only. Raises ValueError.

    Not np.load: it allocates what the header announces before it looks how much there is.
    """
    stream = io.BytesIO(data)
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, by_columns, dtype = headers[npy.read_magic(stream)](stream)
    if by_columns:
        return np.asarray(codec.array_of(data[stream.tell() :], dtype.str, list(shape)[::-1]).T)
    return codec.array_of(data[stream.tell() :], dtype.str, list(shape))
