"""A client of servers with `POST /act` and json_numpy: OpenVLA's and OpenVLA-OFT's deploy.py, X-VLA's server."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError, unknown
from vlaeval_hpc.policies import outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire import codec
from vlaeval_hpc.wire.specs import Spec

CONNECT_TIMEOUT = 10.0
LONGEST_ANSWER = 4 << 20  # bytes: a chunk of some 10,000 actions
FRAME = 224  # the side of the images that OpenVLA was trained on


@dataclass(frozen=True)
class Dialect:
    """The names that a server gives to what it is told.

    `images` in the order of params.cameras. `text`: arrays travel as text that holds JSON, and the answer is a map.
    """

    images: tuple[str, ...]
    state: str | None
    instruction: str
    text: bool = False


DIALECTS = {
    "openvla": Dialect(("image",), None, "instruction"),
    "oft": Dialect(("full_image", "wrist_image"), "state", "instruction"),
    "xvla": Dialect(("image0", "image1", "image2"), "proprio", "language_instruction", text=True),
}
XVLA_STATE = 20  # two arms of position 3, rotation 6, gripper 1; the second is zeros where there is one
XVLA_ACTION = {
    "position": Spec("position", 3, "absolute_xyz"),
    "rotation": Spec("rotation", 3, "absolute_axis_angle"),
    "gripper": Spec("gripper", 1, "binary_close_positive", (-1.0, 1.0)),
}


class Act(Policy):
    """Asks the server at `url` (http://HOST:PORT) for each observation, a request each.

    `dialect` is openvla, oft or xvla; `cameras` are the benchmark's, in the order of the dialect's images: openvla
    takes one, oft two, xvla up to three. `state_dim` is the length of the benchmark's state; 0: none is sent. `extra`
    goes into each request as it is: {unnorm_key: ...}, {domain_id: 3}. `turn` names cameras to turn by 180 degrees.
    `crop` cuts that share of the area out of the middle and resizes images to 224 x 224, as OpenVLA's own evaluation
    does and its server does not; null sends them as they are. `gripper`: see outside.GRIPPERS; xvla's means the same
    everywhere.

    Raises InfrastructureError where the server is lost or does not answer in `timeout` seconds, RuntimeError where it
    says that it failed, ValueError where its answer holds no actions.
    """

    connection = frozenset(("url", "timeout"))

    def __init__(
        self,
        *,
        checkpoint: str | None,
        url: str,
        dialect: str,
        dim: int,
        cameras: Sequence[str],
        state_dim: int = 0,
        extra: dict[str, Any] | None = None,
        turn: Sequence[str] = (),
        crop: float | None = None,
        gripper: str = "as_is",
        timeout: float = 100.0,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._url = outside.address(url, ("http", "https"), 8000)
        if dialect not in DIALECTS:
            raise unknown("model.params.dialect", dialect, DIALECTS)
        if crop is not None and not 0 < crop <= 1:
            raise ConfigurationError(f"model.params.crop={crop}: valid: above 0, up to 1, or null")
        self._dialect = DIALECTS[dialect]
        self._cameras = dict(zip(self._dialect.images, cameras, strict=False))
        self._state = self._dialect.state if state_dim else None
        self._dim = dim
        self._extra = extra or {}
        self._turn = frozenset(turn)
        self._crop = crop
        self._gripper = outside.check_gripper(gripper)
        self._timeout = timeout
        self.action_spec = XVLA_ACTION if self._dialect.text else outside.gives(dim)
        self.observation_spec = outside.looks(self._cameras.values(), state_dim if self._state else 0)

    def load(self) -> None:
        """Raises InfrastructureError where nothing listens."""
        try:
            socket.create_connection((self._url.hostname, self._url.port or 0), CONNECT_TIMEOUT).close()
        except OSError as error:
            raise self._lost(error) from error

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [self._one(seen) for seen in observations]

    def _one(self, seen: Observation) -> NDArray[np.floating[Any]]:
        told: dict[str, Any] = {key: self._picture(seen, camera) for key, camera in self._cameras.items()}
        if self._state:
            told[self._state] = _padded(seen["states"]) if self._dialect.text else seen["states"]
        if self._dialect.text:
            told = {key: to_json(value) for key, value in told.items()}
        given = self._post({**told, self._dialect.instruction: seen["task_description"], **self._extra})
        if isinstance(given, str):
            raise RuntimeError(f"the server {self._url.geturl()} failed, and says only: {given[:100]}")
        if self._dialect.text:
            if not isinstance(given, dict) or "action" not in given:
                raise RuntimeError(f"the server {self._url.geturl()} failed: {given!r:.500}")
            return outside.actions(ee6d_actions(given["action"]), self._dim)
        return outside.actions(given, self._dim, self._gripper)

    def _picture(self, seen: Observation, camera: str) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = seen["images"][camera]
        if camera in self._turn:
            image = np.ascontiguousarray(image[::-1, ::-1])
        return image if self._crop is None else _cropped(image, self._crop)

    def _post(self, told: dict[str, Any]) -> Any:
        body = to_json(told).encode()
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=CONNECT_TIMEOUT)
        over = threading.Event()
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout)
            # A socket's timeout counts from byte to byte: who sends one now and then would be waited for without end.
            late = threading.Timer(self._timeout, _shut, [connection.sock, over])
            late.daemon = True
            late.start()
            try:
                connection.request("POST", "/act", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read(LONGEST_ANSWER + 1)
            finally:
                late.cancel()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(
                "no answer in time" if over.is_set() or isinstance(error, TimeoutError) else error
            ) from error
        finally:
            connection.close()
        if len(answer) > LONGEST_ANSWER:
            raise ValueError(f"the server {self._url.geturl()} gave more than {LONGEST_ANSWER} bytes")
        if over.is_set() or response.length:
            raise self._lost("its answer broke off")
        if response.status != http.client.OK:
            text = answer.decode(errors="replace")[:500]
            raise RuntimeError(f"the server {self._url.geturl()} answered {response.status}: {text}")
        return from_json(answer)

    def _lost(self, why: object) -> InfrastructureError:
        told = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else why
        return InfrastructureError(f"the server {self._url.geturl()} is lost: {told} (timeout {self._timeout:g} s)")


def to_json(value: Any) -> str:
    """JSON with arrays as json_numpy 2 writes them: {"__numpy__": base64 of the numbers, "dtype", "shape"}."""
    return json.dumps(value, default=_array_map)


def from_json(data: bytes) -> Any:
    """Read JSON and json_numpy's arrays, which are read-only. Raises ValueError for anything else."""
    try:
        return json.loads(data, object_hook=_array)
    except (RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"the server's answer is not json_numpy's: {type(error).__name__}: {error}") from error


def ee6d_actions(given: Any, closed: float = 0.5, by_rows: bool = False) -> NDArray[np.floating[Any]]:
    """The first arm of X-VLA's (k, 20) as (k, 7): position, axis-angle (rad), gripper (+1 above `closed`, else -1).

    Of the rotation's six numbers the first three are the matrix's first column, the others lie in the plane of the
    first two (arXiv:1812.07035); `by_rows`: they take turns. Raises ValueError for another shape.
    """
    chunk = np.asarray(given, dtype=np.float64)
    if chunk.ndim != 2 or chunk.shape[1] != XVLA_STATE:
        raise ValueError(f"the server gave actions of shape {chunk.shape}: (k, {XVLA_STATE}) is wanted")
    columns = (chunk[:, 3:9:2], chunk[:, 4:9:2]) if by_rows else (chunk[:, 3:6], chunk[:, 6:9])
    first = columns[0] / np.linalg.norm(columns[0], axis=1, keepdims=True)
    second = columns[1] - (first * columns[1]).sum(axis=1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    matrices = np.stack([first, second, np.cross(first, second)], axis=-1)
    turns = np.array([_axis_angle(matrix) for matrix in matrices])
    return np.concatenate([chunk[:, :3], turns, np.where(chunk[:, 9:10] > closed, 1.0, -1.0)], axis=1)


def _axis_angle(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vector (3,), of at most half a turn, of a rotation matrix."""
    # The quaternion is the eigenvector to the largest eigenvalue of this symmetric matrix (Bar-Itzhack 2000), which
    # is as exact near half a turn as anywhere.
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = matrix
    symmetric = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    quaternion = -quaternion if quaternion[3] < 0 else quaternion
    sine = float(np.linalg.norm(quaternion[:3]))
    if sine < 1e-12:
        return np.zeros(3)
    return np.asarray(quaternion[:3] / sine * 2 * np.arctan2(sine, quaternion[3]))


def _padded(state: NDArray[Any]) -> NDArray[np.float64]:
    padded = np.zeros(XVLA_STATE)
    padded[: len(state)] = state
    return padded


def _cropped(image: NDArray[np.uint8], area: float) -> NDArray[np.uint8]:
    from PIL import Image

    inner = FRAME * area**0.5
    left, right = (FRAME - inner) / 2, (FRAME + inner) / 2
    small = Image.fromarray(image).resize((FRAME, FRAME), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((FRAME, FRAME), Image.Resampling.BILINEAR, box=(left, left, right, right)))


def _array_map(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be sent")
    data = base64.b64encode(codec.array_data(value)).decode()
    return {"__numpy__": data, "dtype": value.dtype.str, "shape": list(value.shape)}


def _array(found: dict[str, Any]) -> Any:
    if "__numpy__" not in found:
        return found
    return codec.array_of(base64.b64decode(found["__numpy__"], validate=True), found["dtype"], found["shape"])


def _shut(connected: socket.socket, over: threading.Event) -> None:
    over.set()
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
