"""What may come over a network: the server stays, small and quiet, and another session is served all the while."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from tests.serving.servers import MB, PATIENCE, TOKEN, RawClient, Server, Talker, frame, served_all_the_while
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.codec import MAX_FRAME
from vlaeval_hpc.wire.messages import Message

BAD_DATA, TOO_BIG, PROTOCOL_ERROR = 1007, 1009, 1002
GROWTH = 200 * MB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all of this file: what one attack leaves behind meets the next."""
    started = Server(tmp_path_factory.mktemp("hostile") / "server.log", params={"width": 5000}).wait_ready()
    _raise_file_limit()
    yield started
    started.kill()


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """Around each attack: served all the while, no session left behind, memory bounded, nothing in the log."""
    before, log = server.memory(), server.log.read_text()
    with served_all_the_while(server):
        yield
        grown = server.memory() - before
    assert grown < GROWTH, f"{grown / MB:.0f} MB"
    deadline = time.monotonic() + PATIENCE
    while server.metric("sessions"):
        assert time.monotonic() < deadline, "sessions are left behind"
        time.sleep(0.1)
    new = server.log.read_text().removeprefix(log)
    unexpected = re.sub(r"^\S+ the policy failed in .*?(?=^\d\d:|\Z)", "", new, flags=re.M | re.S)
    assert "Traceback" not in unexpected, unexpected


def observation(**payload: Any) -> bytes:
    return Message(wire.OBSERVATION, {"value": 1, **payload}, 1).pack()


def nested(depth: int, opening: bytes) -> bytes:
    head = msgpack.packb({"type": "observation", "seq": 1, "timestamp": 0.0})
    return bytes([head[0] + 1]) + head[1:] + b"\xa7payload" + opening * depth + b"\xc0"


BAD_FRAMES = {
    "empty": b"",
    "never used": b"\xc1",
    "not a map": msgpack.packb([1, 2]),
    "no keys": msgpack.packb({}),
    "unknown type": msgpack.packb({"type": "shutdown", "payload": {}, "seq": 1, "timestamp": 0}),
    "payload is text": msgpack.packb({"type": "observation", "payload": "x", "seq": 1, "timestamp": 0}),
    "seq is text": msgpack.packb({"type": "observation", "payload": {}, "seq": "x", "timestamp": 0}),
    "two values": observation() + observation(),
    "cut off": observation()[:-3],
    "lists in lists": nested(100_000, b"\x91"),
    "maps in maps": nested(100_000, b"\x81\xa1a"),
    "long lists announced in lists": nested(1000, b"\xdd\xff\xff\xff\xff"),
    "empty maps": nested(0, b"") + (b"\xdc\x08\x00" + b"\x80" * 2048) * 2048,
    "objects": msgpack.packb({"__ndarray__": True, "data": b"\x80\x04.", "dtype": "O", "shape": [1]}),
    "an extension": msgpack.packb({"type": msgpack.ExtType(5, b"x")}),
    "keys of bytes": msgpack.packb({b"type": "hello", b"payload": {}, b"seq": 1, b"timestamp": 0}),
    "a huge shape": msgpack.packb({"__ndarray__": True, "data": b"", "dtype": "<f8", "shape": [2**40, 2**40]}),
    "no image": msgpack.packb({"__image__": True, "data": b"GIF89a" + bytes(99), "format": "png"}),
}


@pytest.mark.parametrize("data", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_what_is_no_message_ends_its_own_connection_alone(server: Server, data: bytes) -> None:
    client = RawClient(server)
    client.send(data)
    assert client.closing_code() == BAD_DATA
    client.close()


def test_random_and_mutated_bytes(server: Server) -> None:
    rng = random.Random(1)
    good = observation(images={"front": np.zeros((16, 16, 3), np.uint8)})
    for _ in range(60):
        data = bytearray(rng.choice((good, rng.randbytes(rng.randrange(200)))))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data) or 1) :][:1] = rng.randbytes(1)
            del data[rng.randrange(len(data) or 1) :][: rng.randrange(3)]
        client = RawClient(server)
        with contextlib.suppress(ConnectionError):
            client.send(bytes(data), opcode=rng.choice((2, 2, 2, 1, 0, 3, 9, 10, 11)))
            client.socket.sendall(rng.randbytes(rng.randrange(50)))
        client.close()


def test_wrong_types_inside_a_message_are_an_error_and_the_session_goes_on(server: Server) -> None:
    talker = Talker(server, capabilities=[{"chunks": 1}], benchmark={"a": b"\xff"})
    for task in (None, 5, [1], {"seed": "x", "name": {"a": [None]}}, {"name": np.zeros(3)}, {"seed": 2**64 - 1}):
        talker.send(wire.EPISODE_START, {"task": task})
    for value in (None, "text", [1], {"a": 1}, np.zeros((3, 3)), b"x"):
        assert talker.observe(value).type == wire.ERROR  # type: ignore[arg-type]
    assert talker.observe(1).type == wire.ACTION
    talker.close()


def test_a_text_frame_is_told_what_is_wrong(server: Server) -> None:
    client = RawClient(server)
    client.send(b'{"type": "hello"}', opcode=1)
    assert b"a text frame: messages are binary" in client.receive()[1]
    assert client.closing_code() == BAD_DATA
    client.close()


@pytest.mark.parametrize("announced", [MAX_FRAME + 1, 1 << 30, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_length_that_nobody_needs_is_refused_at_the_header(server: Server, announced: int) -> None:
    client = RawClient(server)
    before = server.memory()
    client.socket.sendall(frame(b"", announced=announced))
    assert client.closing_code() in (TOO_BIG, PROTOCOL_ERROR)
    assert server.memory() - before < 16 * MB
    client.close()


def test_a_message_in_fragments_is_bounded_as_a_whole(server: Server) -> None:
    client = RawClient(server)
    with contextlib.suppress(ConnectionError):
        client.send(b"x", fin=False)
        for _ in range(80):
            client.send(bytes(MB), opcode=0, fin=False)
    assert client.closing_code() in (TOO_BIG, 0)
    client.close()


def test_fragments_of_nothing_are_bounded_too(server: Server) -> None:
    client = RawClient(server)
    client.send(b"x", fin=False)
    before = server.memory()
    flood(client, frame(b"", opcode=0, fin=False) * 10_000, 2)
    assert server.memory() - before < 50 * MB
    client.close()


def test_clients_that_vanish_in_the_middle_of_a_frame(server: Server) -> None:
    for i in range(20):
        client = RawClient(server)
        client.socket.sendall(frame(bytes(2 * MB), announced=60 * MB))
        if i % 2:
            client.vanish()
        else:
            client.close()


def test_clients_that_vanish_while_they_are_answered(server: Server) -> None:
    for _ in range(20):
        client = RawClient(server)
        client.send(observation())
        client.vanish()


def flood(client: RawClient, data: bytes, seconds: float) -> int:
    """Send without ever reading, as fast as it is taken; how much was."""
    client.socket.settimeout(0.2)
    sent, end = 0, time.monotonic() + seconds
    view = memoryview(data)
    at = 0
    while time.monotonic() < end:
        try:
            count = client.socket.send(view[at:])
        except TimeoutError:
            continue
        except ConnectionError:
            break
        sent += count
        at = (at + count) % len(data)
    return sent


@pytest.mark.parametrize("size", [0, 2 * MB])
def test_clients_that_ask_without_ever_reading(server: Server, size: int) -> None:
    """Their answers pile up to what a socket holds; then they are not read any more either."""
    before = server.memory()
    clients = [RawClient(server) for _ in range(3)]
    data = frame(observation(noise=bytes(size)))
    for client in clients:
        flood(client, data, 1)
    assert server.memory() - before < 100 * MB
    for client in clients:
        client.vanish()


def test_pings_of_a_client_that_does_not_read(server: Server) -> None:
    """websockets answers pings without waiting for the answers to be read."""
    before = server.memory()
    client = RawClient(server)
    sent = flood(client, frame(bytes(125), opcode=9) * 500, 6)
    assert server.memory() - before < 40 * MB, f"{sent / MB:.0f} MB were taken"
    client.vanish()


def test_a_thousand_connections_without_a_token(server: Server) -> None:
    """Half of them say nothing at all, a quarter half of a request, a quarter ask with a wrong token."""
    before = server.memory()
    address = ("127.0.0.1", server.port)
    request = b"GET /?token=wrong HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    silent, asking = [], []
    for i in range(1000):
        one = socket.create_connection(address, timeout=PATIENCE)
        if i % 4 == 1:
            one.sendall(request)
        if i % 4 == 3:
            one.sendall(request + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        (asking if i % 4 == 3 else silent).append(one)
    for one in asking:
        assert b" 401 " in one.recv(4096)
    assert server.memory() - before < 100 * MB
    talker = Talker(server)
    assert talker.observe(1).type == wire.ACTION
    talker.close()
    # Those who never asked are shown out.
    for one in silent:
        while one.recv(4096):
            pass
    for one in silent + asking:
        one.close()


GARBAGE = {
    "nothing": b"\r\n\r\n",
    "binary": bytes(range(256)) * 8,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "post": b"POST /config HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n" + bytes(1000),
    "chunked": b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
    "http 0.9": b"GET /health\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a long line": b"GET /" + b"a" * 1_000_000,
    "a long header": b"GET / HTTP/1.1\r\nA: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
    "bad percent": b"GET /%zz%ff?%=%&&token=%ff%00 HTTP/1.1\r\nHost: h\r\n\r\n",
    "bad host": b"GET //[::1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "bytes in the token": b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer \xff\xfe\x80\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe?token=\xff HTTP/1.1\r\nHost: h\r\n\r\n",
    "several tokens": b"GET / HTTP/1.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "no upgrade": f"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode(),
    "bad key": f"GET / HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: no\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_request_is_turned_away(server: Server, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as one:
        answer = b""
        with contextlib.suppress(ConnectionError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            while piece := one.recv(65536):
                answer += piece
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]


def test_sigint_ends_it_soon_among_clients_that_do_not_listen(tmp_path: Path, unharmed: None) -> None:
    other = Server(tmp_path / "other.log", params={"width": 5000}).wait_ready()
    try:
        clients = [RawClient(other) for _ in range(5)]
        for client in clients[:3]:
            flood(client, frame(observation()), 0.5)
        silent = [socket.create_connection(("127.0.0.1", other.port)) for _ in range(5)]
        begin = time.monotonic()
        assert other.end(signal.SIGINT) == 0
        assert time.monotonic() - begin < 2
        for one in [c.socket for c in clients] + silent:
            one.close()
        assert "Traceback" not in other.log.read_text()
    finally:
        other.kill()


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
