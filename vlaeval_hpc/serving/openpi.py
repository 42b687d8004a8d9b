"""Our server for openpi's clients, at the path /openpi: first the metadata, then actions for each observation.

openpi-client 0.1.2 tells no episodes: one begins with the connection, and whenever the prompt changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vlaeval_hpc.policies.base import Observation
from vlaeval_hpc.serving.session import SessionHandler
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire import openpi
from vlaeval_hpc.wire.codec import Piece
from vlaeval_hpc.wire.messages import Message
from vlaeval_hpc.wire.specs import RGB, Specs

PATH = "/openpi"
POLICY_FAILED = 1011


class PolicyFailed(Exception):
    """The policy's error, in words for the client."""


class OpenpiHandler:
    """One openpi client's frames, without I/O, over a session of our own protocol."""

    def __init__(self, session: SessionHandler, looks: Specs) -> None:
        self._session = session
        self._looks = looks
        self._prompt: str | None = None

    def metadata(self) -> bytes:
        """The frame that such a client waits for: what a HELLO tells of the policy."""
        told: list[Message | None] = []
        self._session.handle(Message(wire.HELLO, wire.hello(capabilities={wire.CHUNKS: True})), told.append)
        assert told[0] is not None
        return openpi.encode(told[0].payload)

    def handle(self, data: Piece, reply: Callable[[bytes | PolicyFailed], None]) -> None:
        """Reply with the frame of `actions` (k, dim) to one observation. Raises WireError, PolicyFailed."""
        raw = openpi.decode(data)
        prompt = str(raw.get("prompt", ""))
        if prompt == self._prompt:
            self._observe(raw, reply)
            return
        self._prompt = prompt
        start = Message(wire.EPISODE_START, {"task": {"name": prompt}})
        self._session.handle(start, lambda _: self._begun(raw, reply))

    def _begun(self, raw: dict[str, Any], reply: Callable[[bytes | PolicyFailed], None]) -> None:
        try:
            self._observe(raw, reply)
        except PolicyFailed as error:
            reply(error)

    def _observe(self, raw: dict[str, Any], reply: Callable[[bytes | PolicyFailed], None]) -> None:
        def tell(answer: Message | None) -> None:
            assert answer is not None
            if answer.type == wire.ERROR:
                reply(PolicyFailed(answer.payload["error"]))
            else:
                reply(openpi.encode({"actions": np.atleast_2d(answer.payload["actions"])}))

        self._session.handle(Message(wire.OBSERVATION, observation(raw, self._looks)), tell)


def observation(raw: dict[str, Any], looks: Specs) -> Observation:
    """openpi's keys as ours: `prompt`; `.../state`; `.../image`, the policy's first camera; `.../wrist_image`, its
    camera `wrist`, or `.../wrist`. Other keys are left out.

    Raises PolicyFailed where something is missing that the policy looks at.
    """
    cameras = [name for name, spec in looks.items() if spec.format == RGB.format]
    named = {key.rpartition("/")[2]: value for key, value in raw.items()}
    images = {}
    for camera in cameras:
        keys = (camera, f"{camera}_image", *(["image"] if camera == cameras[0] else []))
        found = next((key for key in keys if key in named), None)
        if found is None:
            raise PolicyFailed(f"the policy looks at the camera '{camera}': send observation/{keys[-1]}")
        images[camera] = named[found]
    if "state" in looks and "state" not in named:
        raise PolicyFailed("the policy looks at the state: send observation/state")
    seen: Observation = {"images": images, "task_description": str(raw.get("prompt", ""))}
    if "state" in named:
        seen["states"] = named["state"]
    return seen
