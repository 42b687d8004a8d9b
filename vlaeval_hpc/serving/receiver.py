"""A connection that takes large messages straight from the kernel into one buffer, of which their arrays are views.

websockets copies each byte of a frame four times, in pieces as they come; that is most of what an observation costs a
server. Frames of pictures are told apart by their header and received here; every other byte goes websockets' way.
Whole messages wait here for whoever answers them; answers are written at once.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from vlaeval_hpc.wire.codec import MAX_FRAME
from vlaeval_hpc.wire.frames import BINARY, MASKED, TEXT, header

LARGE = 1 << 16  # bytes of a payload from which a frame has a length of 8 bytes (RFC 6455, 5.2)
HELD = 2  # messages that wait, after which no more is read from the client
SEND_TIMEOUT = 60.0  # a client that does not read its answer for so long is gone

_FIRST_OF_SEVERAL, _LAST_OF_SEVERAL = (0x01, 0x02), 0x80
_KNOWN = frozenset((0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A))
_DATA = (Opcode.CONT, Opcode.TEXT, Opcode.BINARY)
_LONGEST_HEADER = 14  # with a length of 8 bytes and a mask
_START = 16  # of a payload in its buffer: whole words, and room for its header before it
_LONGEST_GUESS = 4 << 20

Buffer = NDArray[np.uint8]
Data = memoryview | bytes | str


class Receiver(ServerConnection, asyncio.BufferedProtocol):
    """websockets' connection, for `create_connection` of its `serve`.

    `wake` is called when a message came, when answers can be written again, and at the end.
    """

    # What the kernel gives between two frames: used up before the event loop turns to another connection.
    _scratch: ClassVar[bytearray] = bytearray(LARGE)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._begin_in_step()

    def _begin_in_step(self) -> None:
        self.wake: Callable[[], None] = _nobody
        self.ended = False
        self._messages: deque[Data] = deque()
        self._holding = False
        self._fragments = bytearray()
        self._text = False
        self._stuck: asyncio.TimerHandle | None = None
        self._in_step = True  # whether we know where frames begin
        self._fragmented = False
        self._head = b""
        self._passing = 0  # bytes of the present frame that are websockets'
        self._frame: Buffer | None = None
        self._filled = self._end = 0  # places in it
        self._mask = b""
        # Observations are of one length as a rule: the next frame's header is guessed, to have all of it in one call.
        self._usual = b""
        self._usual_end = 0
        self._guess: Buffer | None = None

    def next(self) -> Data | None:
        """The oldest message that was not taken yet; None where none waits. Text is told from binary by its type."""
        if not self._messages:
            return None
        data = self._messages.popleft()
        if self._holding and not self._messages:
            self._holding = False
            self.transport.resume_reading()
        return data

    def answer(self, data: bytes | str) -> None:
        """Write a message, unless the connection is at its end. See `writable`."""
        if self.protocol.state is State.OPEN:
            first, payload = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
            self.transport.write(header(len(payload), masked=False, first=first) + payload)

    @property
    def writable(self) -> bool:
        """Whether the client has read most of what was written."""
        return self._stuck is None

    def pause_writing(self) -> None:
        """The transport's word that the client does not read."""
        super().pause_writing()
        self._stuck = asyncio.get_running_loop().call_later(SEND_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """The transport's word that it does again."""
        super().resume_writing()
        self._cancel_timer()
        self.wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._frame is not None:
            return self._frame[self._filled : self._end].data
        if self._usual and not self._head and not self._passing:
            self._guess = _buffer(self._usual_end)
            return self._guess[_START - _LONGEST_HEADER : self._usual_end].data
        return memoryview(self._scratch)

    def buffer_updated(self, count: int) -> None:
        """They came."""
        guess, self._guess = self._guess, None
        if self._frame is not None:
            self._filled += count
            if self._filled == self._end:
                self._finish()
        elif guess is None:
            self._sort(bytes(memoryview(self._scratch)[:count]))
        else:
            self._filled = _START - _LONGEST_HEADER + count
            got = guess[_START - _LONGEST_HEADER : self._filled]
            if count < _LONGEST_HEADER or not self._in_step or self._fragmented or got[:10].tobytes() != self._usual:
                self._sort(got.tobytes())
                return
            self._frame, self._end, self._mask = guess, self._usual_end, got[10:14].tobytes()
            if self._filled == self._end:
                self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing comes any more."""
        self._frame = None
        self._cancel_timer()
        super().connection_lost(error)
        self.ended = True
        self.wake()

    def process_event(self, event: Any) -> None:
        """websockets' word of what came: its frames of data become messages here."""
        if not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
            return
        if event.opcode is not Opcode.CONT:
            self._text = event.opcode is Opcode.TEXT
        self._fragments += event.data
        if event.fin:
            data = bytes(self._fragments)
            self._fragments.clear()
            self._deliver(data.decode("utf-8", "replace") if self._text else data)

    def _deliver(self, data: Data) -> None:
        self._messages.append(data)
        if len(self._messages) > HELD and not self._holding:
            self._holding = True
            self.transport.pause_reading()
        self.wake()

    def _cancel_timer(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

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
            if first == BINARY and length >= LARGE and not self._fragmented:
                if at > begin:
                    self.data_received(data[begin:at])
                end = min(at + size + length, len(data))
                self._begin(data[at : at + size], length, data[at + size : end])
                begin = at = end
                continue
            self._fragmented = first in _FIRST_OF_SEVERAL or (self._fragmented and first != _LAST_OF_SEVERAL)
            at += size + length
        self._passing = at - len(data) if self._frame is None else 0
        if begin < len(data):
            self.data_received(data[begin:])

    def _begin(self, head: bytes, length: int, start: bytes) -> None:
        self._end, self._filled, self._mask = _START + length, _START + len(start), head[-4:]
        self._usual, self._usual_end = (head[:10], self._end) if length <= _LONGEST_GUESS else (b"", 0)
        # Memory is had as it is written to: what is announced and not sent costs nothing.
        self._frame = _buffer(self._end)
        self._frame[_START : self._filled] = np.frombuffer(start, np.uint8)
        if self._filled == self._end:
            self._finish()

    def _finish(self) -> None:
        frame, self._frame = self._frame, None
        assert frame is not None
        if self._mask != bytes(4):
            words = frame[_START:].view(np.uint32)
            np.bitwise_xor(words, np.frombuffer(self._mask, np.uint32), out=words)
        if self.protocol.state is State.OPEN:  # else we said goodbye, and listen no more
            self._deliver(frame[_START : self._end].data.toreadonly())


def _nobody() -> None:
    """Before anybody answers, messages wait."""


def _buffer(end: int) -> Buffer:
    """For so many bytes, and the rest of the last word, for the mask."""
    return np.empty(-(-end // 4) * 4, np.uint8)


def _header(data: bytes, at: int) -> tuple[int, int, bytes]:
    """Bytes of a frame's header and of its payload, -1 where the header is not all there, and the mask."""
    if len(data) < at + 2:
        return 0, -1, b""
    code = data[at + 1]
    length = code & 0x7F
    size = 2 + {126: 2, 127: 8}.get(length, 0)
    end = at + size + (4 if code & MASKED else 0)
    if len(data) < end:
        return 0, -1, b""
    if length == 126:
        (length,) = struct.unpack_from(">H", data, at + 2)
    elif length == 127:
        (length,) = struct.unpack_from(">Q", data, at + 2)
    return end - at, length, data[at + size : end]
