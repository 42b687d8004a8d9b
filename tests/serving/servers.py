"""A server as a process, and clients to it, good and bad."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from vlaeval_hpc import bootstrap
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message

TOKEN = "the-token"
PATIENCE = 60.0  # seconds; what takes longer does not happen
MB = 1 << 20
TESTS = Path(__file__).parent.parent


MODEL = {
    "name": "parrot",
    "target": "serving.parrot:Parrot",
    "chunk_size": None,
    "action_ensemble": "newest",
    "ema_alpha": 0.5,
    "max_batch_size": 8,
    "max_wait_time": 0.002,
}


class Server:
    """`python bootstrap.py vlaeval_hpc.serving -`, with the parrot unless another `target` is given."""

    def __init__(self, log: Path, port: int = 0, **model: Any) -> None:
        question = {"model": MODEL | model, "server": {"host": "127.0.0.1", "port": port}}
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, bootstrap.__file__, "vlaeval_hpc.serving", "-"],
                env={**os.environ, "PYTHONPATH": str(TESTS), "VLAEVAL_HPC_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question).encode())
        self.process.stdin.close()
        self.port = port
        self.token = TOKEN
        self.pid: int | None = self.process.pid

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def wait_ready(self) -> Server:
        """Read the ready line."""
        stream: IO[bytes] | None = self.process.stdout
        assert stream is not None
        line = stream.readline().decode()
        found = re.fullmatch(r"ready ws://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", line)
        assert found, (line, self.log.read_text())
        assert found[2] == TOKEN
        self.port = int(found[1])
        return self

    def get(self, path: str, token: str | None = TOKEN) -> tuple[int, str, str]:
        """GET; status, body and content type."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers.get_content_type()
        finally:
            connection.close()

    def memory(self) -> int:
        """Resident bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]

    def metric(self, name: str) -> float:
        """One value of /metrics."""
        return float(re.search(rf"^vlaeval_hpc_{name} (\S+)$", self.get("/metrics")[1], re.M)[1])  # type: ignore[index]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Talker:
    """One well-behaved session."""

    def __init__(self, server: Server, **hello: Any) -> None:
        headers = {"Authorization": f"Bearer {server.token}"}
        self.socket: ClientConnection = connect(
            server.url, additional_headers=headers, compression=None, max_size=None, open_timeout=PATIENCE
        ).__enter__()
        self._seq = 0
        self.send(wire.HELLO, wire.hello(**hello))
        self.hello = self.receive()

    def send(self, kind: str, payload: dict[str, Any]) -> int:
        self._seq += 1
        self.socket.send(Message(kind, payload, self._seq).pack())
        return self._seq

    def receive(self) -> Message:
        data = self.socket.recv(timeout=PATIENCE)
        assert isinstance(data, bytes)
        return Message.unpack(data)

    def start(self, **task: Any) -> None:
        self.send(wire.EPISODE_START, {"task": task})

    def observe(self, value: float = 0, **more: Any) -> Message:
        """The answer to one observation, whatever it is."""
        seq = self.send(wire.OBSERVATION, {"value": value, **more})
        answer = self.receive()
        assert answer.seq == seq
        return answer

    def act(self, value: float = 0, **more: Any) -> NDArray[Any]:
        """The actions to one observation."""
        answer = self.observe(value, **more)
        assert answer.type == wire.ACTION, answer.payload
        return np.asarray(answer.payload["actions"])

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def served_all_the_while(server: Server) -> Iterator[None]:
    """Another session, which must get its right answers while the body of the `with` runs, and after."""
    talker = Talker(server)
    talker.start(name="steady")
    over = threading.Event()
    answered = 0
    problems: list[BaseException] = []

    def keep_asking() -> None:
        nonlocal answered
        try:
            while not over.is_set():
                assert talker.act(1)[1] == answered + 1
                answered += 1
                time.sleep(0.005)
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield
        before = answered
        deadline = time.monotonic() + PATIENCE
        while answered < before + 3 and not problems and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not problems, problems
        assert answered >= before + 3
        assert server.process.poll() is None
    finally:
        over.set()
        thread.join()
        talker.close()


class RawClient:
    """A WebSocket client that sends what it likes."""

    def __init__(self, server: Server, timeout: float = PATIENCE) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
        self.socket.sendall(
            f"GET /?token={server.token} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = self.socket.recv(1)
            assert piece, answer
            answer += piece
        assert b" 101 " in answer, answer

    def send(self, payload: bytes, opcode: int = 2, fin: bool = True) -> None:
        self.socket.sendall(frame(payload, opcode, fin))

    def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame; 8 and nothing where the connection ended without one."""
        head = self._read(2)
        length = head[1] if head else 0
        if length >= 126:
            length = int.from_bytes(self._read(2 if length == 126 else 8), "big")
        return (head[0] & 0x0F if head else 8), self._read(length)

    def closing_code(self) -> int:
        """Read until the close frame; its code. 0 where the connection ended without one."""
        while True:
            opcode, payload = self.receive()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")

    def _read(self, length: int) -> bytes:
        data = b""
        with contextlib.suppress(ConnectionError):
            while len(data) < length:
                piece = self.socket.recv(length - len(data))
                if not piece:
                    return b""
                data += piece
        return data

    def vanish(self) -> None:
        """End without a word, as a node that crashes does: the kernel's RST is all that is left."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


def frame(payload: bytes, opcode: int = 2, fin: bool = True, announced: int | None = None) -> bytes:
    """A WebSocket frame as clients send it, masked with zeros; `announced` may lie about its length."""
    length = len(payload) if announced is None else announced
    head = bytes([(0x80 if fin else 0) | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65536:
        head += bytes([0x80 | 126]) + struct.pack(">H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", length)
    return head + bytes(4) + payload
