"""Large messages, taken straight from the kernel: whole, whatever pieces they come in and whatever is between them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.protocol import State

from vlaeval_hpc.serving.receiver import LARGE, Receiver


class Fake(Receiver):
    """A receiver without a connection: what it hands on is kept in order, `websockets`' bytes joined."""

    class protocol:
        state = State.OPEN

    def __init__(self) -> None:
        self._begin_in_step()
        self.got: list[tuple[str, bytes]] = []

    def data_received(self, data: bytes) -> None:
        if self.got and self.got[-1][0] == "websockets":
            data = self.got.pop()[1] + data
        self.got.append(("websockets", data))

    def _deliver(self, data: Any) -> None:
        self.got.append(("large", bytes(data)))

    def feed(self, data: bytes, cuts: Iterable[int]) -> None:
        """As a transport does, with these many bytes at a time, again and again."""
        sizes = list(cuts)
        turn = 0
        while data:
            buffer = self.get_buffer(-1)
            size = min(sizes[turn % len(sizes)], len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self.buffer_updated(size)
            turn += 1


def framed(payload: bytes, mask: bytes, first: int = 0x82) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes([first, 0x80 | length])
    elif length < LARGE:
        head = bytes([first, 0xFE]) + struct.pack(">H", length)
    else:
        head = bytes([first, 0xFF]) + struct.pack(">Q", length)
    words = np.frombuffer(payload, np.uint8) ^ np.resize(np.frombuffer(mask, np.uint8), length)
    return head + mask + words.astype(np.uint8).tobytes()


SIZES = st.sampled_from([0, 1, 125, 126, 5000, LARGE - 1, LARGE, LARGE + 1, LARGE + 3, 3 * LARGE])
FIRSTS = st.sampled_from([0x82, 0x82, 0x82, 0x81, 0x89])
CUTS = st.lists(st.sampled_from([1, 2, 3, 7, 13, 14, 1000, LARGE, 10 * LARGE]), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SIZES, FIRSTS, st.binary(min_size=4, max_size=4)), min_size=1, max_size=5), CUTS)
def test_nothing_is_lost_or_changed_and_the_order_stays(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    cuts = [*cuts, LARGE]  # not everything byte by byte
    receiver = Fake()
    expected: list[tuple[str, bytes]] = []
    stream = b""
    for number, (size, first, mask) in enumerate(frames):
        payload = np.random.default_rng(number).bytes(size)
        data = framed(payload, mask, first)
        stream += data
        if first == 0x82 and size >= LARGE:
            expected.append(("large", payload))
        elif expected and expected[-1][0] == "websockets":
            expected[-1] = ("websockets", expected[-1][1] + data)
        else:
            expected.append(("websockets", data))
    receiver.feed(stream, cuts)
    assert receiver.got == expected


@pytest.mark.parametrize(
    "start",
    [
        framed(b"a", b"mask", 0x02),  # the first of several: what follows is an error, and websockets' to tell
        bytes([0x82, 0x05]),  # not masked
        bytes([0xC2, 0x85]),  # a reserved bit
        bytes([0x82, 0xFF]) + struct.pack(">Q", 1 << 40) + b"mask",  # too large
    ],
)
def test_what_is_wrong_is_left_to_websockets(start: bytes) -> None:
    receiver = Fake()
    stream = start + framed(bytes(LARGE), b"mask")
    receiver.feed(stream, [LARGE])
    assert receiver.got == [("websockets", stream)]


def test_what_follows_a_request_at_once_is_left_to_websockets() -> None:
    receiver = Fake()
    receiver.protocol = type("protocol", (), {"state": State.CONNECTING})  # type: ignore[assignment,misc]
    request = b"GET / HTTP/1.1\r\n\r\n"
    receiver.feed(request + b"\x82", [LARGE])
    receiver.protocol.state = State.OPEN
    rest = framed(bytes(LARGE), b"mask")[1:]
    receiver.feed(rest, [LARGE])
    assert receiver.got == [("websockets", request + b"\x82" + rest)]
