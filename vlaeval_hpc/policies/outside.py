"""What the clients of servers that already run share: what they look at, and what they take for actions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

GRIPPERS = ("as_is", "open_unit")
"""What a server's last number means: what the benchmark takes, or the share that the gripper is open, 0 to 1."""


def address(url: str, schemes: tuple[str, ...], port: int) -> SplitResult:
    """The parts of `params.url`, with a port. Raises ConfigurationError."""
    try:
        parts = urlsplit(url)
        number = parts.port or port
    except ValueError as error:
        raise ConfigurationError(f"model.params.url='{url}': {error}") from error
    if parts.scheme not in schemes or not parts.hostname:
        valid = ", ".join(f"{scheme}://HOST:{port}" for scheme in schemes)
        raise ConfigurationError(f"model.params.url='{url}': valid: {valid}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts._replace(netloc=f"{host}:{number}")


def looks(cameras: Iterable[str], state_dim: int) -> Specs:
    """The instruction, these cameras, and the benchmark's own state where `state_dim` is not 0."""
    state = {"state": Spec("state", state_dim, "any")} if state_dim else {}
    return {**dict.fromkeys(cameras, RGB), **state, "language": LANGUAGE}


def gives(dim: int) -> Specs:
    """An action of `dim` numbers, of whose parts nobody tells. Raises ConfigurationError."""
    if dim < 1:
        raise ConfigurationError(f"model.params.dim={dim}: valid: 1 and more")
    return {"action": Spec("action", dim, "raw")}


def check_gripper(gripper: str) -> str:
    """Raises ConfigurationError for what is none of GRIPPERS."""
    if gripper not in GRIPPERS:
        raise unknown("model.params.gripper", gripper, GRIPPERS)
    return gripper


def actions(given: Any, dim: int, gripper: str = "as_is") -> NDArray[np.floating[Any]]:
    """What a server gave as an action chunk (k, dim) float32; an open_unit gripper becomes +1 closed, -1 open.

    Raises ValueError for anything but finite numbers of that shape, or (dim,).
    """
    try:
        chunk = np.atleast_2d(np.array(given, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the server gave no actions: {error}") from error
    if chunk.ndim != 2 or chunk.shape[1] != dim or not len(chunk):
        raise ValueError(f"the server gave actions of shape {chunk.shape}: (k, {dim}) is wanted (model.params.dim)")
    if not np.isfinite(chunk).all():
        raise ValueError("the server gave actions that are not finite")
    if gripper == "open_unit":
        chunk[:, -1] = np.where(chunk[:, -1] > 0.5, -1.0, 1.0)
    return chunk
