"""A client of GR00T's inference servers over ZeroMQ (github.com/NVIDIA/Isaac-GR00T: N1.5, N1.6, N1.7)."""

from __future__ import annotations

import io
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


class Gr00t(Policy):
    """Asks the server at `url` (tcp://HOST:5555) for each observation, one after the other.

    The embodiment's own names: `cameras` maps its video keys to the benchmark's cameras, `state` its state keys to how
    many numbers of the benchmark's state each takes, in order, `action` is its action keys in the order of the
    benchmark's action, `prompt` its language key. `gripper`: see outside.GRIPPERS. An answer is waited for at most
    `timeout` seconds. A server that wants a token gets GR00T_API_TOKEN of the environment. Needs pyzmq.

    Raises InfrastructureError where the server does not answer, RuntimeError with what it says where it failed,
    ValueError where its answer holds no actions.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        url: str,
        dialect: str,
        dim: int,
        cameras: dict[str, str],
        state: dict[str, int],
        action: list[str],
        prompt: str,
        gripper: str = "as_is",
        timeout: float = 100.0,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._url = outside.address(url, ("tcp",), 5555).geturl()
        if dialect not in DIALECTS:
            raise unknown("model.params.dialect", dialect, DIALECTS)
        if not action:
            raise ConfigurationError("model.params.action: names no part of the action")
        self._flat = dialect == "n1.5"
        self._dim = dim
        self._cameras = cameras
        self._state = state
        self._action = action
        self._prompt = prompt
        self._gripper = outside.check_gripper(gripper)
        self._timeout = timeout
        self._socket: Any = None
        self.action_spec = outside.gives(dim)
        self.observation_spec = outside.looks(cameras.values(), sum(state.values()))

    def load(self) -> None:
        """Ask whether it is there. Raises InfrastructureError, ConfigurationError where pyzmq is missing."""
        self._call({"endpoint": "ping"}, min(PING_TIMEOUT, self._timeout))

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [self._one(seen) for seen in observations]

    def _one(self, seen: Observation) -> NDArray[np.floating[Any]]:
        video = {key: seen["images"][camera][None] for key, camera in self._cameras.items()}
        state, begin = {}, 0
        for key, count in self._state.items():
            state[key] = np.asarray(seen["states"][begin : begin + count], dtype=np.float32)[None]
            begin += count
        told = seen["task_description"]
        if self._flat:
            video = {f"video.{key}": value for key, value in video.items()}
            data = {**video, **{f"state.{key}": value for key, value in state.items()}, self._prompt: [told]}
        else:
            observation = {
                "video": {key: value[None] for key, value in video.items()},
                "state": {key: value[None] for key, value in state.items()},
                "language": {self._prompt: [[told]]},
            }
            data = {"observation": observation, "options": None}
        return self._actions(self._call({"endpoint": "get_action", "data": data}, self._timeout))

    def _actions(self, given: Any) -> NDArray[np.floating[Any]]:
        if not self._flat:
            given = given[0] if isinstance(given, list) and given else None  # [actions, info]
        if not isinstance(given, dict):
            raise ValueError(f"the GR00T server gave no actions: {given!r:.200}")
        parts = []
        for name in self._action:
            key = f"action.{name}" if self._flat else name
            part = np.asarray(given.get(key))
            if part.ndim not in ((1, 2) if self._flat else (3,)) or not len(part):
                had = {k: np.shape(v) for k, v in given.items()}
                raise ValueError(f"the GR00T server gave no '{key}' but {had} (model.params.action, .dialect)")
            if not self._flat:
                part = part[0]
            parts.append(part[:, None] if part.ndim == 1 else part)
        return outside.actions(np.concatenate(parts, axis=-1), self._dim, self._gripper)

    def _call(self, request: dict[str, Any], timeout: float) -> Any:
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
            answer = codec.decode(self._socket.recv(), _Reader())
        except (TimeoutError, zmq.ZMQError, WireError) as error:
            # A REQ socket that got no answer can ask nothing more. ZeroMQ itself knows no lost connection.
            self._socket.close()
            self._socket = None
            raise InfrastructureError(f"the GR00T server {self._url} is lost: {error}") from error
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"the GR00T server {self._url} failed: {answer['error']!s:.2000}")
        return answer


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
