"""The six messages of protocol version 1.

The client opens with hello and gets a hello. episode_start and episode_end get no answer. An observation gets an
action, or an error after which the connection stays open, with the observation's seq.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Dict, List

from vlaeval_hpc import __version__
from vlaeval_hpc.wire.codec import Piece, Reader, WireError, decode, pieces

PROTOCOL_VERSION = 1
HARNESS_MARK = "+vlaeval.hpc"
HARNESS_VERSION = __version__ + HARNESS_MARK
"""Which harness this is, where vla-eval writes its own version (PEP 440, with a local part)."""

HELLO = "hello"
OBSERVATION = "observation"
ACTION = "action"
EPISODE_START = "episode_start"
EPISODE_END = "episode_end"
ERROR = "error"
TYPES = frozenset((HELLO, OBSERVATION, ACTION, EPISODE_START, EPISODE_END, ERROR))

CHUNKS = "chunks"
"""Capability, in HELLO's `capabilities`: the client takes a whole action chunk and observes once a chunk."""

IMAGES = "images"
"""Capability: the codec (specs.CODECS) in which the client would send images; raw where neither says anything."""

_WITHOUT_PICTURES = partial(Reader, pictures=False)


@dataclass
class Message:
    """One frame. `seq` counts the sender's messages; an answer carries its question's."""

    type: str
    payload: Dict[str, Any]
    seq: int = 0
    timestamp: float = field(default_factory=time.time)

    def pack(self) -> bytes:
        """The frame. Raises TypeError where the payload holds what the wire does not carry."""
        return b"".join(self.pieces())

    def pieces(self) -> List[Piece]:
        """The frame in pieces: it is not copied together, and large arrays must not change until it is sent."""
        return pieces({"type": self.type, "payload": self.payload, "seq": self.seq, "timestamp": self.timestamp})

    @classmethod
    def unpack(cls, data: Piece, pictures: bool = True) -> "Message":
        """Read a frame; large arrays are views of `data`.

        Raises WireError, whatever the bytes; HoldsPictures where it does and `pictures` is False.
        """
        raw = decode(data, Reader if pictures else _WITHOUT_PICTURES)
        if not isinstance(raw, dict):
            raise WireError(f"not a message: a {type(raw).__name__}")
        missing = [k for k in ("type", "payload", "seq", "timestamp") if k not in raw]
        if missing:
            raise WireError(f"not a message: '{missing[0]}' is missing")
        kind, payload, seq, timestamp = raw["type"], raw["payload"], raw["seq"], raw["timestamp"]
        if not isinstance(kind, str) or kind not in TYPES:
            raise WireError(f"message type {kind!r:.40}: valid: {', '.join(sorted(TYPES))}")
        if not isinstance(payload, dict):
            raise WireError("not a message: payload is no map")
        if type(seq) is not int or not isinstance(timestamp, (int, float)):
            raise WireError("not a message: seq or timestamp is no number")
        return cls(kind, payload, seq, float(timestamp))


def hello(**more: Any) -> Dict[str, Any]:
    """HELLO's payload: the versions, and what a side adds."""
    return {"harness_version": HARNESS_VERSION, "protocol_version": PROTOCOL_VERSION, **more}
