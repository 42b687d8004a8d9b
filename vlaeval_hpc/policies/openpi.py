"""A client of openpi's policy servers: pi0, pi0-FAST, pi0.5 (github.com/Physical-Intelligence/openpi)."""

from __future__ import annotations

import inspect
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.policies import outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire import openpi
from vlaeval_hpc.wire.codec import MAX_FRAME, WireError

OPEN_TIMEOUT = 10.0


class ToldAsOpenpi(Policy):
    """What a policy of openpi's is told, wherever it runs.

    `cameras` maps its names of images to the benchmark's cameras; `state` and `prompt` are its names of the state and
    the instruction, `state` null where it wants none. `size`: images are resized to size x size, with black borders
    where they are not square, as openpi's own clients do; null leaves them as they are. `dim` and `state_dim` are the
    numbers in an action and in the benchmark's state.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        dim: int,
        cameras: dict[str, str],
        state: str | None = "observation/state",
        state_dim: int = 0,
        prompt: str = "prompt",
        size: int | None = 224,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._dim = dim
        self._cameras = cameras
        self._state = state if state_dim else None
        self._prompt = prompt
        self._size = size
        self.action_spec = outside.gives(dim)
        self.observation_spec = outside.looks(cameras.values(), state_dim if state else 0)

    def _told(self, seen: Observation) -> dict[str, Any]:
        told: dict[str, Any] = {name: resized(seen["images"][c], self._size) for name, c in self._cameras.items()}
        if self._state:
            told[self._state] = seen["states"]
        return {**told, self._prompt: seen["task_description"]}


class Openpi(ToldAsOpenpi):
    """Asks the server at `url` (ws://HOST:PORT) for each observation, one after the other, over one connection.

    An answer is waited for at most `timeout` seconds. A server that wants a key gets OPENPI_API_KEY of the environment.
    The rest: ToldAsOpenpi.

    Raises InfrastructureError where the server is lost, RuntimeError with what it says where it failed.
    """

    connection = frozenset(("url", "timeout"))

    def __init__(self, *, url: str, timeout: float = 100.0, **told: Any) -> None:
        super().__init__(**told)
        self._url = outside.address(url, ("ws", "wss"), 8000).geturl()
        self._timeout = timeout
        self._socket: Any = None
        self.metadata: dict[str, Any] = {}

    def load(self) -> None:
        """Connect. Raises InfrastructureError where no server answers."""
        self._connect()

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [outside.actions(self._ask(self._told(seen)).get("actions"), self._dim) for seen in observations]

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        frame = openpi.encode(message)
        try:
            answer = self._exchange(frame)
        except TimeoutError:
            # What it answers late must not be taken for the next answer.
            self._drop()
            raise InfrastructureError(f"the openpi server {self._url} gave no answer in {self._timeout:g} s") from None
        if isinstance(answer, str):
            self._drop()  # it closes the connection
            raise RuntimeError(f"the openpi server {self._url} failed: {answer.strip()[-2000:]}")
        return self._decoded(answer)

    def _exchange(self, frame: bytes) -> Any:
        if self._socket is not None:
            try:
                return self._once(frame)
            except TimeoutError:
                raise
            except Exception:
                self._drop()  # closed since it was last used, say by a server that started again: once more
        self._connect()
        try:
            return self._once(frame)
        except TimeoutError:
            raise
        except Exception as error:
            raise self._lost(error) from error

    def _once(self, frame: bytes) -> Any:
        self._socket.send(frame)
        return self._socket.recv(timeout=self._timeout)

    def _connect(self) -> None:
        from websockets.sync.client import connect

        key = os.environ.get("OPENPI_API_KEY")
        options: dict[str, Any] = {
            "compression": None,
            "max_size": MAX_FRAME,
            "open_timeout": OPEN_TIMEOUT,
            "additional_headers": {"Authorization": f"Api-Key {key}"} if key else None,
        }
        # Newer versions of websockets read proxies from the environment, and ping; the server infers in its event loop
        # and answers no ping meanwhile.
        known = inspect.signature(connect).parameters
        options.update({k: None for k in ("ping_interval", "proxy") if k in known})
        try:
            self._socket = connect(self._url, **options).__enter__()
            first = self._socket.recv(timeout=self._timeout)
        except Exception as error:  # whatever it is that listens there
            raise self._lost(error) from error
        self.metadata = self._decoded(first)

    def _decoded(self, frame: Any) -> dict[str, Any]:
        try:
            return openpi.decode(frame if isinstance(frame, bytes) else frame.encode())
        except WireError as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> InfrastructureError:
        self._drop()
        return InfrastructureError(f"the openpi server {self._url} is lost: {type(error).__name__}: {error}")

    def _drop(self) -> None:
        if self._socket is not None:
            try:
                self._socket.close()
            except Exception:
                pass
            self._socket = None


def resized(image: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """(h, w, 3) as (size, size, 3), undistorted, bilinear; bit for bit what openpi-client's resize_with_pad gives."""
    height, width = image.shape[:2]
    if size is None or (height, width) == (size, size):
        return image
    from PIL import Image

    shrink = max(width / size, height / size)
    inner = (int(width / shrink), int(height / shrink))
    canvas = np.zeros((size, size, 3), np.uint8)
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    picture = Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR)
    canvas[top : top + inner[1], left : left + inner[0]] = np.asarray(picture)
    return canvas
