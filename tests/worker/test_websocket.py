"""The client's WebSocket with websockets' own server: fragments, pings, large messages, and every end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.utils import accept_key, generate_key

from vlaeval_hpc.wire.codec import MAX_FRAME
from vlaeval_hpc.worker.websocket import WebSocket

PATIENCE = 60.0
Handler = Callable[[ServerConnection], None]


@pytest.fixture
def served() -> Iterator[Callable[[Handler], str]]:
    servers: list[tuple[Server, threading.Thread]] = []

    def check(connection: ServerConnection, request: Request) -> Response | None:
        known = request.headers.get("Authorization") == "Bearer secret"
        return None if known else connection.respond(401, "who?\n")  # type: ignore[arg-type]

    def start(handler: Handler) -> str:
        server = serve(handler, "127.0.0.1", 0, compression=None, max_size=None, process_request=check)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()


def opened(url: str, max_size: int = MAX_FRAME) -> WebSocket:
    return WebSocket(url, "secret", max_size, 0.05)


def received(socket: WebSocket) -> bytes | str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        message = socket.receive()
        if message is not None:
            return message
    raise AssertionError("nothing came")


def echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for message in connection:
            connection.send(message)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 5_000_000])
def test_messages_of_every_size_arrive_as_they_are(served: Callable[[Handler], str], size: int) -> None:
    socket = opened(served(echo))
    message = bytes(i % 251 for i in range(min(size, 1000))) * (size // 1000 or 1)
    for _ in range(2):
        socket.send([message])
        assert received(socket) == message
    assert socket.receive() is None
    socket.close()


def test_a_message_of_more_pieces_than_the_kernel_takes(served: Callable[[Handler], str]) -> None:
    socket = opened(served(echo))
    pieces = [bytes([i % 251]) * 1000 for i in range(3000)]
    socket.send(pieces)
    assert received(socket) == b"".join(pieces)
    socket.close()


def test_fragments_are_joined_and_pings_answered(served: Callable[[Handler], str]) -> None:
    answered: list[bool] = []

    def handler(connection: ServerConnection) -> None:
        pong = connection.ping()
        connection.send([b"a", b"bc", b"", b"d"])
        answered.append(pong.wait(PATIENCE))
        connection.send("text")
        connection.recv()

    socket = opened(served(handler))
    assert received(socket) == b"abcd"
    assert received(socket) == "text"
    assert answered == [True]
    socket.send([b"done"])
    socket.close()


def test_a_goodbye_is_seen_without_being_asked_for(served: Callable[[Handler], str]) -> None:
    socket = opened(served(lambda connection: connection.close(1001, "draining")))
    deadline = time.monotonic() + PATIENCE
    while socket.is_open():
        assert time.monotonic() < deadline
    with pytest.raises(ConnectionClosed) as caught:
        socket.send([b"late"])
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
    with pytest.raises(ConnectionClosed):
        received(socket)
    socket.close()


def test_an_end_without_a_word_is_an_end(served: Callable[[Handler], str]) -> None:
    socket = opened(served(lambda connection: connection.socket.close()))
    with pytest.raises((ConnectionClosed, OSError)):
        received(socket)
    assert not socket.is_open()
    socket.close()


def test_too_large_a_message_is_refused(served: Callable[[Handler], str]) -> None:
    socket = opened(served(lambda connection: connection.send(bytes(2000))), max_size=1000)
    with pytest.raises(ConnectionClosed, match="1009"):
        received(socket)
    socket.close()


def test_a_refusal_is_told_by_its_status(served: Callable[[Handler], str]) -> None:
    with pytest.raises(InvalidStatus) as caught:
        WebSocket(served(echo), "", MAX_FRAME, 1.0)
    assert caught.value.response.status_code == 401


class Pieces:
    """A socket from which bytes come in the pieces given, and to which anything may be sent."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        return self.pieces.pop(0)

    def sendall(self, data: bytes) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: None


def answered(request_key: str) -> bytes:
    accept = accept_key(request_key)
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


def frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    if length < 1 << 16:
        return bytes([first, 126]) + length.to_bytes(2, "big") + payload
    return bytes([first, 127]) + length.to_bytes(8, "big") + payload


SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 128, 300, 65535, 65536])
# A message, one in two fragments with a ping between, a ping.
KINDS = st.sampled_from(["whole", "whole", "fragments", "ping"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(KINDS, SIZES), max_size=6), st.lists(st.integers(1, 400), max_size=8), st.booleans())
def test_messages_arrive_whatever_pieces_they_come_in(
    messages: list[tuple[str, int]], cuts: list[int], at_frames: bool
) -> None:
    """`at_frames`: each frame in a piece of its own, which is how they come as a rule."""
    expected, frames = [], []
    for number, (kind, size) in enumerate(messages):
        payload = bytes([number + 1]) * size
        if kind == "ping":
            frames.append(frame(0x89, payload[:125]))
            continue
        expected.append(payload)
        if kind == "whole":
            frames.append(frame(0x82, payload))
        else:
            frames += [frame(0x02, payload[:7]), frame(0x89, b"?"), frame(0x80, payload[7:])]
    if not at_frames:
        stream = b"".join(frames)
        frames = []
        for cut in cuts:
            frames.append(stream[:cut])
            stream = stream[cut:]
        frames.append(stream)
    frames = [one for one in frames if one]
    key = generate_key()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("websockets.client.generate_key", lambda: key)
        # The last piece of the handshake may hold the first of what follows.
        head = answered(key) + (frames.pop(0) if frames and not at_frames else b"")
        patch.setattr("socket.create_connection", lambda *arguments, **named: Pieces([head, *frames]))
        socket = WebSocket("ws://nowhere:1", "", MAX_FRAME, 1.0)
    got = []
    for _ in range(len(frames) + len(expected) + 2):
        message = socket.receive()
        if message is not None:
            got.append(message)
    assert got == expected
