"""A connection that takes large messages straight from the kernel into one buffer.

websockets copies each byte of a frame four times, in pieces as they come; that is most of what an observation costs a
server. Frames of pictures are told apart by their header and received here; every other byte goes websockets' way.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from vlaeval_hpc.wire.codec import MAX_FRAME

LARGE = 1 << 16  # bytes of a payload from which a frame has a length of 8 bytes (RFC 6455, 5.2)
KEPT = 4  # buffers kept for the next frames, none of more than LONGEST_KEPT bytes
LONGEST_KEPT = 4 << 20

_BINARY, _FIRST_OF_SEVERAL, _LAST_OF_SEVERAL = 0x82, (0x01, 0x02), 0x80
_KNOWN = frozenset((0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A))
_MASKED = 0x80

Buffer = NDArray[np.uint8]


class Receiver(ServerConnection, asyncio.BufferedProtocol):
    """websockets' connection, for `create_connection` of its `serve`."""

    # What the kernel gives between two frames: used up before the event loop turns to another connection.
    _scratch: ClassVar[bytearray] = bytearray(LARGE)
    _spare: ClassVar[list[Buffer]] = []

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_step = True  # whether we know where frames begin
        self._fragmented = False
        self._head = b""
        self._passing = 0  # bytes of the present frame that are websockets'
        self._frame: Buffer | None = None
        self._length = self._filled = 0
        self._mask = b""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._frame is not None:
            return self._frame[self._filled : self._length].data
        return memoryview(self._scratch)

    def buffer_updated(self, count: int) -> None:
        """They came."""
        if self._frame is None:
            self._sort(bytes(memoryview(self._scratch)[:count]))
            return
        self._filled += count
        if self._filled == self._length:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing comes any more."""
        self._frame = None
        super().connection_lost(error)

    def _sort(self, data: bytes) -> None:
        if self.protocol.state is State.CONNECTING:
            # What follows a request at once is not looked at before the request is accepted.
            self._in_step = data.endswith(b"\r\n\r\n")
        if not self._in_step or self.protocol.state is State.CONNECTING:
            self.data_received(data)
            return
        data = self._head + data
        self._head = b""
        begin = 0
        at = self._passing
        while at < len(data):
            size, length, mask = _header(data, at)
            if length < 0:  # cut off: the rest of it comes
                self._head = data[at:]
                data = data[:at]
                break
            first = data[at]
            if first not in _KNOWN or not mask or length > MAX_FRAME:
                self._in_step = False  # websockets will say what is wrong
                at = len(data)
                break
            if first == _BINARY and length >= LARGE and not self._fragmented:
                if at > begin:
                    self.data_received(data[begin:at])
                end = min(at + size + length, len(data))
                self._begin(length, mask, data[at + size : end])
                begin = at = end
                continue
            self._fragmented = first in _FIRST_OF_SEVERAL or (self._fragmented and first != _LAST_OF_SEVERAL)
            at += size + length
        self._passing = at - len(data) if self._frame is None else 0
        if begin < len(data):
            self.data_received(data[begin:])

    def _begin(self, length: int, mask: bytes, start: bytes) -> None:
        spare = next((i for i, buffer in enumerate(self._spare) if len(buffer) >= length), None)
        # Whole words, for the mask. Memory is had as it is written to: what is announced and not sent costs nothing.
        self._frame = np.empty(-(-length // 4) * 4, np.uint8) if spare is None else self._spare.pop(spare)
        self._length, self._filled, self._mask = length, len(start), mask
        self._frame[: len(start)] = np.frombuffer(start, np.uint8)
        if self._filled == length:
            self._finish()

    def _finish(self) -> None:
        frame, self._frame = self._frame, None
        assert frame is not None
        if self._mask != bytes(4):
            words = frame[: -(-self._length // 4) * 4].view(np.uint32)
            np.bitwise_xor(words, np.frombuffer(self._mask, np.uint32), out=words)
        data = frame[: self._length].tobytes()
        if len(self._spare) < KEPT and len(frame) <= LONGEST_KEPT:
            self._spare.append(frame)
        if self.protocol.state is State.OPEN:  # else we said goodbye, and listen no more
            self.process_event(Frame(Opcode.BINARY, data))


def _header(data: bytes, at: int) -> tuple[int, int, bytes]:
    """Bytes of a frame's header and of its payload, -1 where the header is not all there, and the mask."""
    if len(data) < at + 2:
        return 0, -1, b""
    code = data[at + 1]
    length = code & 0x7F
    size = 2 + {126: 2, 127: 8}.get(length, 0)
    end = at + size + (4 if code & _MASKED else 0)
    if len(data) < end:
        return 0, -1, b""
    if length == 126:
        (length,) = struct.unpack_from(">H", data, at + 2)
    elif length == 127:
        (length,) = struct.unpack_from(">Q", data, at + 2)
    return end - at, length, data[at + size : end]
