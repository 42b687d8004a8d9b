"""What an observation costs, in counts that no clock and no load can change."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.conftest import serving, starting
from tests.serving.servers import TOKEN, Server
from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Item
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.wire.messages import OBSERVATION, Message
from vlaeval_hpc.wire.specs import RGB, Spec
from vlaeval_hpc.worker.client import Client
from vlaeval_hpc.worker.episode import run_episode

__all__ = ["serving", "starting"]

PIXELS = 2 * 256 * 256 * 3
SEEN = {
    "images": {name: np.full((256, 256, 3), i, np.uint8) for i, name in enumerate(("agentview", "wrist"))},
    "states": np.zeros(8),
    "task_description": "pick up the black bowl",
}
FILES: list[str] | None = None


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and FILES is not None:
        FILES.append(str(arguments[0]))


sys.addaudithook(watch)


class Counted:
    """A socket that counts what is asked of it."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.calls: list[str] = []
        self.sent = 0

    def sendmsg(self, parts: list[memoryview]) -> int:
        self.calls.append("sendmsg")
        sent = int(self._real.sendmsg(parts))
        self.sent += sent
        return sent

    def send(self, data: bytes) -> int:
        self.calls.append("send")
        sent = int(self._real.send(data))
        self.sent += sent
        return sent

    def recv(self, size: int) -> bytes:
        self.calls.append("recv")
        return bytes(self._real.recv(size))

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._real, name)


def allocated(function: Any) -> int:
    """Peak bytes that it takes, beyond what was there."""
    function()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        kept = function()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
        return peak - before
    finally:
        tracemalloc.stop()


def test_pictures_travel_as_they_are() -> None:
    frame = Message(OBSERVATION, SEEN, 1).pack()
    assert PIXELS < len(frame) < PIXELS + 400


def test_unpacking_copies_no_picture() -> None:
    frame = Message(OBSERVATION, SEEN, 1).pack()
    assert allocated(lambda: Message.unpack(frame)) < 20_000


def test_packing_copies_no_picture() -> None:
    """The packer sets 256 KiB aside for each message, whatever comes."""
    assert allocated(Message(OBSERVATION, SEEN, 1).pieces) < (256 << 10) + 10_000


@pytest.fixture
def client(serving: Any, tmp_path: Path) -> Client:
    return connected(serving, tmp_path)


def connected(serving: Any, tmp_path: Path, **settings: Any) -> Client:
    server: Server = serving(params={"chunk": 4})
    run = RunDirectory(tmp_path)
    run.create()
    nonce = json.loads(server.get("/health")[1])["nonce"]
    Rendezvous("run", 0, [server.url], TOKEN, nonce, "", 0).publish(run.rendezvous(0))
    found = Client(run, "run", 0, {"answer_timeout": 60, "wait_timeout": 60, **settings}, lambda phase: None)
    found.connect("toy")
    return found


def test_an_observation_is_one_message_out_and_one_in(client: Client) -> None:
    socket: Any = client._socket
    counted = socket._socket = Counted(socket._socket)
    client.start({"name": "a"})
    counted.calls.clear()
    before = counted.sent
    for _ in range(20):
        client.act({"value": 1.0})
    assert counted.calls == ["send", "recv"] * 20
    assert counted.sent - before < 20 * 100
    counted.calls.clear()
    before = counted.sent
    client.act({**SEEN, "value": 1.0})
    # The kernel may take a large message in parts; there is nothing but these, and no byte twice.
    assert set(counted.calls) == {"sendmsg", "recv"} and counted.calls.count("recv") == 1
    assert PIXELS < counted.sent - before < PIXELS + 500
    client.drop()


@pytest.mark.parametrize("granted", [True, False])
def test_for_a_slow_link_pictures_are_packed_where_the_server_reads_them(
    serving: Any, tmp_path: Path, granted: bool
) -> None:
    client = connected(serving, tmp_path, codec="png" if granted else "raw")
    counted = client._socket._socket = Counted(client._socket._socket)  # type: ignore[union-attr]
    client.act({"value": 1.0, **SEEN})
    assert (counted.sent < 10_000) is granted
    client.drop()


class Camera(Benchmark):
    """Counts its frames."""

    max_steps = 30
    episodes_per_task = 1
    action_spec = {"value": Spec("value", 6, "any")}
    observation_spec = {"front": RGB}

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.frames = 0
        self.looks: list[bool] = []

    def tasks(self) -> list[dict[str, Any]]:
        return [{"name": "a"}]

    def reset(self, task: Any, episode: int) -> None:
        pass

    def observe(self) -> dict[str, Any]:
        self.frames += 1
        return {"value": 1.0}

    def step(self, action: Any, look: bool = True) -> bool:
        self.looks.append(look)
        return False

    def result(self) -> dict[str, Any]:
        return {"success": True}


def test_a_chunk_is_one_frame_and_an_episode_one_file(client: Client) -> None:
    """Of 30 steps in chunks of 4, eight are looked at; the file is the rendezvous, before the episode."""
    global FILES
    camera = Camera()
    FILES = []
    try:
        client.leave_draining()
        record = run_episode(camera, {"name": "a"}, Item("a", 0, 1), client, 30, lambda phase: None)
    finally:
        opened, FILES = FILES, None
    assert (record["steps"], record.get("failure_reason")) == (30, None)
    assert camera.frames == 8
    assert [i + 1 for i, look in enumerate(camera.looks) if look] == [4, 8, 12, 16, 20, 24, 28]
    assert [Path(name).name for name in opened] == ["rendezvous-0.json"]
    client.drop()
