"""Both ends of a connection, of ours, of vla-eval's, and bare: `python perf/ends.py ROLE ...`, in any environment.

A server prints `ready URL`. A client prints `ready`, waits for a line on its standard input, asks for so many seconds,
and prints {"count", "seconds", "median", "memory"}: answers, their time, the median latency, the process's peak bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

ANSWER = bytes(128)  # of a bare server: as long as an action's message


def observation() -> dict[str, Any]:
    """Two frames of 256 x 256, of smoothly shaded surfaces, which PNG packs as fast as any, and a state."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:256, 0:256]
    images = {}
    for name, tilt in (("agentview", 0.4), ("wrist", 0.7)):
        shade = 90 + 60 * np.sin(rows / 80 + tilt) + 50 * np.cos(columns / 60 - tilt)
        picture = shade[..., None] * np.array([1.0, 0.9, 0.8])
        for _ in range(12):
            y, x = rng.integers(0, 200, 2)
            picture[y : y + 40, x : x + 40] = rng.integers(0, 255, 3)
        images[name] = np.clip(picture, 0, 255).astype(np.uint8)
    return {"images": images, "states": np.zeros(8), "task_description": "pick up the black bowl"}


def ask(act: Callable[[], object]) -> None:
    """Be a client whose question and answer is `act`."""
    for _ in range(3):
        act()
    print("ready", flush=True)
    seconds = float(sys.stdin.readline())
    times = []
    end = time.perf_counter() + seconds
    begin = last = time.perf_counter()
    while last < end:
        act()
        now = time.perf_counter()
        times.append(now - last)
        last = now
    report(len(times), last - begin, statistics.median(times))


def report(count: int, seconds: float, median: float) -> None:
    """A client's last line."""
    memory = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    said = {"count": count, "seconds": seconds, "median": median, "memory": int(memory.split()[1]) * 1024}
    print(json.dumps(said), flush=True)


def bare_server() -> None:
    """websockets alone: takes a message, answers a short one."""
    from websockets.asyncio.server import ServerConnection, serve

    async def answer(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(ANSWER)

    async def run() -> None:
        async with serve(answer, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None) as server:
            print(f"ready ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
            await server.serve_forever()

    asyncio.run(run())


def bare_client(url: str) -> None:
    """websockets alone, sending what is packed already."""
    from websockets.sync.client import connect

    from vlaeval_hpc.wire.messages import OBSERVATION, Message

    frame = Message(OBSERVATION, observation(), 1).pack()
    with connect(url, compression=None, max_size=None, ping_interval=None) as connection:

        def act() -> None:
            connection.send(frame)
            connection.recv()

        ask(act)


def peer_server(max_batch_size: str, max_wait_time: str) -> None:
    """vla-eval's, with a policy that answers at once."""
    from vla_eval.model_servers.predict import PredictModelServer
    from vla_eval.model_servers.serve import serve

    class Instant(PredictModelServer):
        def predict(self, obs: Any, ctx: Any) -> Any:
            return {"actions": np.zeros(7, np.float32)}

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(f"ready ws://127.0.0.1:{port}", flush=True)
    serve(Instant(max_batch_size=int(max_batch_size), max_wait_time=float(max_wait_time)), "127.0.0.1", port)


def peer_client(url: str, image_format: str) -> None:
    """vla-eval's; `image_format` png is what it ships with."""
    from vla_eval.connection import Connection
    from vla_eval.protocol.numpy_codec import set_image_format

    set_image_format(image_format)
    loop = asyncio.new_event_loop()

    async def open_one() -> Connection:
        connection = Connection(url)
        await connection.connect(benchmark="perf")
        await connection.start_episode({"task": {"name": "perf"}})
        return connection

    # One loop for all the while, as an episode has: each question a step of it costs what it costs there.
    async def run() -> None:
        connection = await open_one()
        seen = observation()
        await ask_async(lambda: connection.act(seen))

    loop.run_until_complete(run())


async def ask_async(act: Callable[[], Awaitable[object]]) -> None:
    """As `ask`."""
    for _ in range(3):
        await act()
    print("ready", flush=True)
    seconds = float(sys.stdin.readline())
    times = []
    end = time.perf_counter() + seconds
    begin = last = time.perf_counter()
    while last < end:
        await act()
        now = time.perf_counter()
        times.append(now - last)
        last = now
    report(len(times), last - begin, statistics.median(times))


def our_client(url: str) -> None:
    """A shard's, without its simulator."""
    from vlaeval_hpc.run.directory import RunDirectory
    from vlaeval_hpc.run.rendezvous import Rendezvous
    from vlaeval_hpc.worker.client import Client

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(folder)
        run.create()
        address, _, token = url.partition("/?token=")
        Rendezvous("perf", 0, [address], token, "", "", os.getpid()).publish(run.rendezvous(0))
        times = {"answer_timeout": 60.0, "wait_timeout": 60.0}
        client = Client(run, "perf", 0, times, lambda phase: None)
        client.connect("perf")
        client.start({"name": "perf"})
        seen = observation()
        ask(lambda: client.act(seen))
        client.drop()


def crowd(url: str, form: str, count: str) -> None:
    """Many connections that send the same packed observation, in the form (ours, peer) in which a client packs it."""
    from websockets.asyncio.client import ClientConnection, connect

    if form == "ours":
        from vlaeval_hpc.wire.messages import EPISODE_START, OBSERVATION, Message

        start = Message(EPISODE_START, {"task": {"name": "perf"}}, 1).pack()
        frame = Message(OBSERVATION, observation(), 2).pack()
    else:
        from vla_eval.protocol.messages import Message as PeerMessage
        from vla_eval.protocol.messages import MessageType, pack_message
        from vla_eval.protocol.numpy_codec import set_image_format

        set_image_format("raw")
        start = pack_message(PeerMessage(MessageType.EPISODE_START, {"task": {"name": "perf"}}, 1))
        frame = pack_message(PeerMessage(MessageType.OBSERVATION, observation(), 2))

    async def run() -> None:
        opened: list[ClientConnection] = []
        for _ in range(int(count)):
            opened.append(await connect(url, compression=None, max_size=None, ping_interval=None))
            await opened[-1].send(start)
        print("ready", flush=True)
        seconds = float(await asyncio.to_thread(sys.stdin.readline))
        begin = time.perf_counter()

        async def one(connection: ClientConnection) -> int:
            answered = 0
            while time.perf_counter() < begin + seconds:
                await connection.send(frame)
                await connection.recv()
                answered += 1
            return answered

        counts = await asyncio.gather(*map(one, opened))
        report(sum(counts), time.perf_counter() - begin, 0.0)

    asyncio.run(run())


ROLES = {
    "bare-server": bare_server,
    "bare-client": bare_client,
    "peer-server": peer_server,
    "peer-client": peer_client,
    "our-client": our_client,
    "crowd": crowd,
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    ROLES[sys.argv[1]](*sys.argv[2:])
