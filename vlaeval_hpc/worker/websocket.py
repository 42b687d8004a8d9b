"""A client's WebSocket in one thread: websockets' protocol over a blocking socket.

Its own client reads in a second thread, whose wake-up is a good part of an answer's time, and masks a copy of all that
is sent. Here the mask is zero: it keeps scripts in browsers from forging requests to old proxies (RFC 6455, 10.3), and
neither is here. A short answer that comes as one frame is read here; all else is websockets' to read.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from typing import Any, List, Optional, Sequence, Union

from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from vlaeval_hpc.wire.codec import Piece
from vlaeval_hpc.wire.frames import BINARY, header

OPEN_TIMEOUT = 10.0
CLOSE_TIMEOUT = 1.0  # for the other side's goodbye
CHUNK = 1 << 16
AT_ONCE = 1024  # pieces that the kernel takes: Linux's IOV_MAX


class WebSocket:
    """An open connection; `tick`: seconds that a wait for the other side takes at most.

    Raises InvalidStatus where the server answers with another status than 101, and whatever else websockets or the
    socket has to say.
    """

    def __init__(self, url: str, token: str, max_size: int, tick: float) -> None:
        uri = parse_uri(url)
        self._protocol = ClientProtocol(uri, max_size=max_size)
        self._max_size = max_size
        self._tick = tick
        self._secure = uri.secure
        self._received: List[Any] = []
        self._parts: List[bytes] = []
        self._text = False
        self._open_bytes = 0  # of a frame that is not all here
        self._ended = False
        self._socket: Any = socket.create_connection((uri.host, uri.port), timeout=OPEN_TIMEOUT)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=uri.host)
            self._shake_hands(token)
            self._wait_a_tick()
        except BaseException:
            self._socket.close()
            raise

    def is_open(self) -> bool:
        """Whether the other side is there, by all that it has said so far."""
        self._socket.settimeout(0.0)
        try:
            while self._read():
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            return False
        finally:
            self._wait_a_tick()
        return not self._over

    def send(self, message: Sequence[Piece]) -> None:
        """Send a binary message, given in pieces. Raises ConnectionClosed, OSError."""
        if self._over:
            raise self._closed()
        parts = [header(sum(map(len, message)), masked=True) + bytes(message[0]), *message[1:]]
        if self._secure:  # TLS knows no sendmsg
            parts = [b"".join(parts)]
        while parts:
            try:
                sent = self._socket.send(parts[0]) if len(parts) == 1 else self._socket.sendmsg(parts[:AT_ONCE])
            except (BlockingIOError, socket.timeout):
                continue  # whoever watches over this process knows how long is too long
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if parts:
                parts[0] = memoryview(parts[0])[sent:]

    def receive(self) -> Union[bytes, str, None]:
        """The next message, None where it is not there within a tick. Raises ConnectionClosed, OSError."""
        message = self._take()
        if message is None:
            if self._over:
                raise self._closed()
            try:
                data = self._socket.recv(CHUNK)
            except (BlockingIOError, socket.timeout):
                return None
            if not self._open_bytes and not self._parts:
                message = _whole(data, self._max_size)
                if message is not None:
                    return message
            self._take_in(data)
            message = self._take()
        return message

    def close(self) -> None:
        """Say goodbye, and wait a little for the other side's."""
        try:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
                self._flush()
            self._socket.settimeout(CLOSE_TIMEOUT)
            deadline = time.monotonic() + CLOSE_TIMEOUT
            while time.monotonic() < deadline and self._read():
                pass
        except OSError:
            pass
        finally:
            self._socket.close()

    @property
    def _over(self) -> bool:
        return self._ended or self._protocol.state is not State.OPEN

    def _closed(self) -> ConnectionClosed:
        # Not the protocol's own, which has none before the last byte has come.
        protocol = self._protocol
        return ConnectionClosedError(protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent)

    def _wait_a_tick(self) -> None:
        """Let no call wait for longer."""
        if self._secure:
            self._socket.settimeout(self._tick)
            return
        # The kernel's own timeouts: Python's ask it before each call whether the call would wait.
        self._socket.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", *divmod(int(self._tick * 1e6), 10**6)))

    def _shake_hands(self, token: str) -> None:
        request = self._protocol.connect()
        if token:
            request.headers["Authorization"] = "Bearer " + token
        self._protocol.send_request(request)
        self._flush()
        answer = b""
        while self._protocol.state is State.CONNECTING:
            data = self._socket.recv(CHUNK)
            answer += data
            self._take_in(data)
            if not data:
                break
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc
        if self._protocol.state is State.CONNECTING:
            raise ConnectionError("the server closed the connection before it answered")
        self._open_bytes -= answer.index(b"\r\n\r\n") + 4

    def _take(self) -> Union[bytes, str, None]:
        while self._received:
            frame = self._received.pop(0)
            if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
                self._text = frame.opcode is Opcode.TEXT
            elif frame.opcode is not Opcode.CONT:
                continue  # pings are answered already, and pongs nobody asked for
            self._parts.append(frame.data)
            if frame.fin:
                data = b"".join(self._parts)
                self._parts = []
                return data.decode() if self._text else data
        return None

    def _read(self) -> bool:
        """Take in what the kernel has, waiting for it within the socket's time; False at the end of the stream."""
        data = self._socket.recv(CHUNK)
        self._take_in(data)
        return bool(data)

    def _take_in(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._ended = True
            self._protocol.receive_eof()
        self._open_bytes += len(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                length = len(event.data)
                self._open_bytes -= len(header(length, masked=False)) + length
                self._received.append(event)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)


def _whole(data: bytes, max_size: int) -> Optional[bytes]:
    """The message of a server's short frame that came alone and all at once; None where that is not so."""
    if len(data) < 4 or data[0] != BINARY or data[1] > 126:
        return None
    begin, length = (2, data[1]) if data[1] < 126 else (4, data[2] << 8 | data[3])
    return data[begin:] if begin + length == len(data) and length <= max_size else None
