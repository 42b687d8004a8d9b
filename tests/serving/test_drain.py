"""A server that is told to leave: what runs ends well, nothing new begins."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.serving.conftest import Start
from tests.serving.parrot import Parrot
from tests.serving.servers import MODEL, PATIENCE, TOKEN, Server, Talker
from tests.serving.test_server import eventually
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.serving import drain
from vlaeval_hpc.serving.server import Place, PolicyServer
from vlaeval_hpc.wire import messages as wire

GOING_AWAY = 1001


def drained(server: Server) -> None:
    """Warn the server, and wait until it has taken note."""
    server.process.send_signal(signal.SIGUSR2)
    eventually(lambda: server.get("/health", token=None)[0] == 503)


def closing_code(talker: Talker) -> int:
    with pytest.raises(ConnectionClosed) as caught:
        talker.receive()
    assert caught.value.rcvd is not None
    return int(caught.value.rcvd.code)


def test_running_episodes_end_and_then_it_leaves(serving: Start) -> None:
    server = serving()
    talkers = [Talker(server) for _ in range(3)]
    for talker in talkers[:2]:
        talker.start()
        talker.act(1)
    drained(server)
    assert closing_code(talkers[2]) == GOING_AWAY  # it was in no episode
    for look in range(2, 20):
        assert [tuple(talker.act(1)[:2]) for talker in talkers[:2]] == [(look, look)] * 2
    talkers[0].send(wire.EPISODE_END, {})
    assert closing_code(talkers[0]) == GOING_AWAY
    assert talkers[1].act(1)[1] == 20
    assert server.process.poll() is None
    talkers[1].send(wire.EPISODE_END, {})
    assert closing_code(talkers[1]) == GOING_AWAY
    assert server.process.wait(PATIENCE) == 0


def test_nobody_comes_any_more(serving: Start) -> None:
    server = serving()
    talker = Talker(server)
    talker.start()
    talker.act()
    drained(server)
    status, body, _ = server.get("/health", token=None)
    assert (status, json.loads(body)["status"]) == (503, "draining")
    with pytest.raises(InvalidStatus) as caught:
        connect(server.url, additional_headers={"Authorization": f"Bearer {TOKEN}"})
    assert caught.value.response.status_code == 503
    assert server.get("/metrics")[0] == 200
    talker.start()  # the next episode, without an end of this one
    assert closing_code(talker) == GOING_AWAY
    assert server.process.wait(PATIENCE) == 0


def test_what_is_asked_outside_of_an_episode_is_answered(serving: Start) -> None:
    server = serving(params={"latency": 1.0})
    talker = Talker(server)
    seq = talker.send(wire.OBSERVATION, {"value": 3})
    eventually(lambda: server.metric("waiting") == 1)
    drained(server)
    answer = talker.receive()
    assert (answer.type, answer.seq) == (wire.ACTION, seq)
    assert closing_code(talker) == GOING_AWAY
    assert server.process.wait(PATIENCE) == 0


def test_with_nobody_there_it_leaves_at_once(serving: Start) -> None:
    server = serving()
    assert server.end() == 0


def test_the_grace_is_bounded_and_a_later_signal_shortens_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process: an episode that does not end is left when the shorter of two graces is over."""
    monkeypatch.setattr(drain, "GRACE", {signal.SIGUSR2: 3600.0, signal.SIGTERM: 1.0, signal.SIGINT: 0.0})
    place = Place(run="a-run", rendezvous=tmp_path / "rendezvous-0.json")

    async def run() -> float:
        ready = asyncio.Event()
        server = PolicyServer("parrot", Parrot(), MODEL, place)
        running = asyncio.create_task(server.run(lambda found: ready.set()))
        await ready.wait()
        found = Rendezvous.read(place.rendezvous or Path())
        assert found is not None
        talker = await asyncio.to_thread(talk, found)
        os.kill(os.getpid(), signal.SIGUSR2)
        while not (now := Rendezvous.read(place.rendezvous or Path())) or not now.draining:
            await asyncio.sleep(0.02)
        assert now.nonce == found.nonce
        assert not running.done()
        begin = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE)
        seconds = time.monotonic() - begin
        assert await asyncio.to_thread(closing_code, talker) == GOING_AWAY
        return seconds

    assert asyncio.run(run()) >= 1.0


def talk(found: Rendezvous) -> Talker:
    class Found:
        url, token = found.urls[0], found.token

    talker = Talker(Found())  # type: ignore[arg-type]
    talker.start()
    talker.act(1)
    return talker


def test_the_file_of_an_older_server_says_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "rendezvous-0.json"
    Rendezvous("run", 0, ["ws://h:1"], "t", "n", "h", 1).publish(path)
    raw = json.loads(path.read_text())
    del raw["draining"]
    path.write_text(json.dumps({**raw, "of a newer one": 1}))
    found = Rendezvous.read(path)
    assert found is not None and found.draining is False
