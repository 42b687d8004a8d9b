"""Attack a policy server on this machine for as long as you like, while one good session keeps being served.

    python scripts/fuzz_server.py --seconds 600
    python scripts/fuzz_server.py --url ws://127.0.0.1:8000 --token TOKEN --pid 4711
    python scripts/fuzz_server.py --seed 7 --only 1234        one attack again

Without --url it starts a server of the tests' double. Attack N of a seed is always the same bytes. Exits with 1 where
the server died, the good session missed an answer, or its memory grew by more than --growth MB.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.serving.servers import PATIENCE, RawClient, Server, Talker, frame
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message

MB = 1 << 20
HELD = 200  # half-open connections at a time
WORKERS = 4
HEADERS = (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff")
NESTED = (b"\x91" * 2000, b"\x81\xa1a" * 2000)


def _png() -> bytes:
    with io.BytesIO() as stream:
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, "PNG")
        return stream.getvalue()


PNG = _png()


class Target(Server):
    """A server that runs already."""

    def __init__(self, url: str, token: str, pid: int | None) -> None:
        parts = urlsplit(url)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1") or not parts.port:
            raise SystemExit(f"--url {url}: only a server on this machine is attacked: ws://127.0.0.1:PORT")
        self.port = parts.port
        self.token = token or parse_qs(parts.query).get("token", [""])[0]
        self.pid = pid


class Attacks:
    """What a hostile client does; each method is one attack, drawn from `rng`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._held: list[socket.socket] = []
        self._lock = threading.Lock()

    def run(self, rng: random.Random) -> str:
        """One attack; its name."""
        attack: Callable[[random.Random], None] = rng.choice(
            (
                self.mutated_message,
                self.mutated_message,
                self.mutated_message,
                self.nonsense,
                self.wrong_frames,
                self.lying_length,
                self.no_request,
                self.half_open,
                self.flood,
                self.vanish,
            )
        )
        # What the server does to an attacker is its right.
        with contextlib.suppress(OSError, AssertionError, ValueError):
            attack(rng)
        return attack.__name__

    def mutated_message(self, rng: random.Random) -> None:
        """Messages that were once good."""
        with self._client() as client:
            for _ in range(rng.randint(1, 5)):
                client.send(mutated(rng, good(rng)))
            client.receive()

    def nonsense(self, rng: random.Random) -> None:
        """Good messages with payloads of any kind."""
        with self._client() as client:
            for seq in range(rng.randint(1, 8)):
                kind = rng.choice(sorted(wire.TYPES))
                payload = {rng.choice(("task", "states", "value", "images", "x")): anything(rng, 4) for _ in range(3)}
                client.send(Message(kind, payload, seq, timestamp=0.0).pack())
                if kind in (wire.HELLO, wire.OBSERVATION):
                    client.receive()

    def wrong_frames(self, rng: random.Random) -> None:
        """Fragments, control frames, reserved opcodes in any order."""
        with self._client() as client:
            for _ in range(rng.randint(1, 50)):
                client.send(rng.randbytes(rng.choice((0, 5, 125, 126, 70_000))), rng.randrange(16), rng.random() < 0.7)

    def lying_length(self, rng: random.Random) -> None:
        """A header that announces what never comes, or more than anybody may send."""
        with self._client() as client:
            announced = rng.choice((1, 1 << 16, 60 * MB, 1 << 30, (1 << 63) - 1, (1 << 64) - 1))
            client.socket.sendall(frame(rng.randbytes(rng.randrange(1 << 16)), announced=announced))
            if rng.random() < 0.5:
                client.vanish()

    def no_request(self, rng: random.Random) -> None:
        """HTTP that is none, or that nobody asked for."""
        request = (
            b"GET /%s?token=%s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ) % (rng.choice((b"", b"config", b"metrics", b"health")), rng.randbytes(4), rng.choice((b"", rng.randbytes(9))))
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=5) as one:
            one.sendall(mutated(rng, request) if rng.random() < 0.8 else rng.randbytes(rng.randrange(5000)))
            one.shutdown(socket.SHUT_WR)
            while one.recv(65536):
                pass

    def half_open(self, rng: random.Random) -> None:
        """Connections that say nothing, or half of something, and stay."""
        one = socket.create_connection(("127.0.0.1", self._server.port), timeout=5)
        one.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n"[: rng.randrange(25)])
        with self._lock:
            self._held.append(one)
            leaving = [self._held.pop(rng.randrange(len(self._held)))] if len(self._held) > HELD else []
        for old in leaving:
            old.close()

    def flood(self, rng: random.Random) -> None:
        """Observations or pings without end, answers unread."""
        with self._client() as client:
            client.socket.settimeout(0.1)
            data = frame(rng.choice((good(rng), b"x" * 125)), opcode=rng.choice((2, 9))) * 50
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                with contextlib.suppress(TimeoutError):
                    client.socket.send(data)

    def vanish(self, rng: random.Random) -> None:
        """A good question, and gone."""
        client = RawClient(self._server)
        data = frame(good(rng))
        client.socket.sendall(data[: rng.randint(1, len(data))])
        client.vanish()

    def close(self) -> None:
        for one in self._held:
            one.close()

    @contextlib.contextmanager
    def _client(self) -> Iterator[RawClient]:
        client = RawClient(self._server, timeout=5)
        try:
            yield client
        finally:
            client.close()


def good(rng: random.Random) -> bytes:
    """A message as clients send them."""
    kind = rng.choice((wire.HELLO, wire.EPISODE_START, wire.OBSERVATION, wire.OBSERVATION, wire.EPISODE_END))
    picture = {"__image__": True, "format": "png", "data": PNG if rng.random() < 0.8 else mutated(rng, PNG)}
    payload = {
        "task": {"name": "a", "seed": 3},
        "value": rng.random(),
        "states": np.arange(3.0),
        "images": {"front": np.zeros((8, 8, 3), np.uint8), "wrist": picture},
        "task_description": "go",
    }
    return Message(kind, payload, rng.randrange(100), timestamp=0.0).pack()


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut, put in, or repeated."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + 1] = rng.randbytes(1)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 20)]
        elif kind == 2:
            changed[at:at] = rng.choice((*HEADERS, *NESTED, b"\xc1"))
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randint(1, 20))
        else:
            changed[at:at] = changed[: rng.randint(1, 30)]
    return bytes(changed)


def anything(rng: random.Random, depth: int) -> Any:
    """A value that the wire carries."""
    if depth and rng.random() < 0.4:
        inner = [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
        return inner if rng.random() < 0.5 else {str(i): v for i, v in enumerate(inner)}
    shape = tuple(rng.randrange(4) for _ in range(rng.randrange(4)))
    dtype = rng.choice(("?", "u1", ">i4", "<f2", "<f8"))
    plain = (None, True, -1, 2**64 - 1, float("nan"), "text", b"\xff", np.zeros(shape, dtype))
    return plain[rng.randrange(len(plain))]


class GoodSession:
    """Asks without pause; every answer must come, and be right where the policy is known."""

    def __init__(self, server: Server, known: bool) -> None:
        self._talker = Talker(server)
        self._known = known
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answered = 0
        self.slowest = 0.0
        self.problem = ""

    def start(self) -> None:
        self._talker.start(name="steady", seed=1)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE)

    def _ask(self) -> None:
        try:
            while not self._over.is_set():
                begin = time.monotonic()
                answer = self._talker.observe(1.0)
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.answered += 1
                looks = answer.payload["actions"][1] if self._known and answer.type == wire.ACTION else None
                if self._known and looks != self.answered:
                    raise AssertionError(f"answer {self.answered} is {answer.type} {answer.payload}"[:500])
                time.sleep(0.002)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"


def main() -> int:
    arguments = _arguments()
    if arguments.url:
        server: Server = Target(arguments.url, arguments.token, arguments.pid)
        server.get("/health")
        return fuzz(server, arguments)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "server.log").wait_ready()
        try:
            status = fuzz(server, arguments)
            if server.process.poll() is not None:
                print(f"the server ended with status {server.process.returncode}")
                status = 1
            log = server.log.read_text()
            if "a session broke" in log or status:
                print(log[-4000:])
                status = 1
            return status
        finally:
            server.kill()


def fuzz(server: Server, arguments: argparse.Namespace) -> int:
    """Attack until the time is over or something is wrong; the exit status."""
    steady = GoodSession(server, known=not arguments.url)
    steady.start()
    attacks = Attacks(server)
    first = largest = _memory(server)
    numbers = itertools.count()
    done: Counter[str] = Counter()
    latest: dict[int, int] = {}
    end = time.monotonic() + arguments.seconds

    def attack(worker: int) -> None:
        while time.monotonic() < end and not steady.problem:
            latest[worker] = number = next(numbers) if arguments.only is None else arguments.only
            done[attacks.run(random.Random(f"{arguments.seed}:{number}"))] += 1
            if arguments.only is not None:
                return

    count = WORKERS if arguments.only is None else 1
    workers = [threading.Thread(target=attack, args=(i,), daemon=True) for i in range(count)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.2)
        largest = max(largest, _memory(server))
    steady.end()
    attacks.close()
    grown = (largest - first) / MB
    for name, count in sorted(done.items()):
        print(f"{count:8d}  {name}")
    print(f"{sum(done.values()):8d}  attacks of seed {arguments.seed}, the last {sorted(latest.values())}")
    print(f"{steady.answered:8d}  answers to the good session, the slowest after {steady.slowest:.2f} s")
    print(f"{largest / MB:8.0f}  MB at most, {grown:.0f} more than at the start")
    if steady.problem:
        print(f"the good session: {steady.problem}")
    if grown > arguments.growth:
        print(f"memory grew by more than --growth {arguments.growth}")
    return int(bool(steady.problem) or steady.answered == 0 or grown > arguments.growth)


def _memory(server: Server) -> int:
    with contextlib.suppress(OSError, TypeError):
        return server.memory()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="attack N alone")
    parser.add_argument("--growth", type=float, default=300, metavar="MB")
    parser.add_argument("--url", help="a server on this machine; default: start one")
    parser.add_argument("--token", default="", help="its token, where --url has none")
    parser.add_argument("--pid", type=int, help="its process, whose memory is watched")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
