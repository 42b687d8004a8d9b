"""The protocol's server side, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from tests.serving.parrot import FIELDS, Parrot
from vlaeval_hpc.serving.batching import Batcher
from vlaeval_hpc.serving.metrics import Metrics
from vlaeval_hpc.serving.session import SessionHandler
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

CHUNKS = {"capabilities": {"chunks": True}}


class Conversation:
    """Sends messages to one session; every answer must be a frame that the wire carries."""

    def __init__(self, policy: Parrot, batcher: Batcher, metrics: Metrics, model: dict[str, Any]) -> None:
        self.metrics = metrics
        self.session = SessionHandler("parrot", policy, batcher, metrics, model)
        self._seq = 10

    async def say(self, kind: str, **payload: Any) -> Message | None:
        self._seq += 1
        sent = Message.unpack(Message(kind, payload, self._seq).pack())
        told: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self.session.handle(sent, told.set_result)
        answer = await told
        if answer is None:
            return None
        assert answer.seq == self._seq
        return Message.unpack(answer.pack())

    async def ask(self, kind: str, **payload: Any) -> Message:
        answer = await self.say(kind, **payload)
        assert answer is not None
        return answer

    async def act(self, **payload: Any) -> Any:
        answer = await self.ask(wire.OBSERVATION, **{"value": 0, **payload})
        assert answer.type == wire.ACTION, answer.payload
        return answer.payload["actions"]


def talk(body: Callable[[Conversation], Awaitable[None]], policy: Parrot | None = None, **model: Any) -> Metrics:
    """Run `body` with one session of a server that has nothing else to do."""
    metrics = Metrics()
    parrot = policy or Parrot()

    async def run() -> None:
        batcher = Batcher(parrot, metrics)
        running = asyncio.create_task(batcher.run())
        try:
            await asyncio.wait_for(body(Conversation(parrot, batcher, metrics, model)), 20)
        finally:
            running.cancel()
            await asyncio.wait((running,))

    asyncio.run(run())
    return metrics


def test_hello_says_what_is_served() -> None:
    async def body(client: Conversation) -> None:
        hello = (await client.ask(wire.HELLO, harness_version="0.8.0", protocol_version=1)).payload
        assert hello["protocol_version"] == 1
        assert hello["model_server"] == "parrot"
        assert hello["action_spec"] == {"parrot": {"name": "parrot", "dims": len(FIELDS), "format": "parrot"}}
        assert set(hello["observation_spec"]) == {"value"}
        assert hello["observation_params"] == {}
        assert hello["capabilities"] == {}

    talk(body)


def test_a_peer_is_asked_for_the_wrist_and_the_state_where_the_policy_looks_at_them() -> None:
    policy = Parrot()
    policy.observation_spec = {"wrist": RGB, "state": Spec("state", 8, "eef"), "language": LANGUAGE}

    async def body(client: Conversation) -> None:
        hello = (await client.ask(wire.HELLO)).payload
        assert hello["observation_params"] == {"send_wrist_image": True, "send_state": True}

    talk(body, policy)


def test_a_client_that_takes_chunks_gets_them_whole() -> None:
    async def body(client: Conversation) -> None:
        assert (await client.ask(wire.HELLO, **CHUNKS)).payload["capabilities"] == {"chunks": True}
        await client.say(wire.EPISODE_START, task={"name": "a", "seed": 7})
        first, second = await client.act(), await client.act()
        assert first.shape == second.shape == (4, len(FIELDS))
        assert first.dtype == np.float32
        assert [first[0, 2], second[0, 2]] == [0, 4]  # steps taken before
        assert first[0, 3] == 7  # the episode's seed
        late = await client.act(realtime={"step": 6, "delay": 1})
        assert late[0, 2] == 6  # in real time it is the clock that counts them

    talk(body, Parrot(chunk=4))


def test_other_clients_get_one_action_an_observation_and_the_policy_looks_as_often() -> None:
    policy = Parrot(chunk=4)

    async def body(client: Conversation) -> None:
        await client.ask(wire.HELLO)
        await client.say(wire.EPISODE_START, task={"name": "a"})
        actions = [await client.act(value=i) for i in range(8)]
        assert all(a.shape == (len(FIELDS),) for a in actions)
        assert [a[5] for a in actions] == [0, 1, 2, 3] * 2
        assert [a[2] for a in actions] == [0] * 4 + [4] * 4

    metrics = talk(body, policy)
    assert policy.batches == [1, 1]
    assert metrics.observations == 8


@pytest.mark.parametrize("offered", [None, {}, {"chunks": False}, [], "chunks", 1])
def test_only_a_client_that_offers_chunks_gets_them(offered: Any) -> None:
    async def body(client: Conversation) -> None:
        assert (await client.ask(wire.HELLO, capabilities=offered)).payload["capabilities"] == {}

    talk(body, Parrot(chunk=2))


@pytest.mark.parametrize("offered", ["png", "raw", "jpeg", True, None])
def test_a_codec_is_granted_where_it_is_asked_for_and_can_be_read(
    offered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(client: Conversation) -> None:
        wanted = {"capabilities": {"images": offered}}
        granted = (await client.ask(wire.HELLO, **wanted)).payload["capabilities"]
        assert granted == ({"images": "png"} if offered == "png" else {})
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert (await client.ask(wire.HELLO, **wanted)).payload["capabilities"] == {}

    talk(body)


def test_ensembles_see_every_frame_whatever_the_client_offers() -> None:
    async def body(client: Conversation) -> None:
        assert (await client.ask(wire.HELLO, **CHUNKS)).payload["capabilities"] == {}
        await client.say(wire.EPISODE_START, task={})
        assert [(await client.act(value=1))[1] for _ in range(3)] == [1, 1.5, 2]

    talk(body, Parrot(chunk=3), action_ensemble="average")


def test_chunk_size_cuts_chunks() -> None:
    async def body(client: Conversation) -> None:
        await client.ask(wire.HELLO, **CHUNKS)
        await client.say(wire.EPISODE_START, task={})
        assert (await client.act()).shape == (2, len(FIELDS))
        assert (await client.act())[0, 2] == 2

    talk(body, Parrot(chunk=5), chunk_size=2)


def test_an_episode_starts_with_nothing_of_the_last() -> None:
    async def body(client: Conversation) -> None:
        await client.ask(wire.HELLO)
        for _ in range(2):
            assert await client.say(wire.EPISODE_START, task={"seed": 5}) is None
            assert [tuple((await client.act(value=3))[:3]) for _ in range(2)] == [(3, 1, 0), (3, 1, 0)]
            assert tuple((await client.act(value=4))[:3]) == (7, 2, 2)
            # The next episode starts in the middle of this one's chunk.
            assert await client.say(wire.EPISODE_END, metrics={}, steps=3, elapsed_sec=0.1) is None

    metrics = talk(body, Parrot(chunk=2))
    assert metrics.episodes == 2


def test_an_episode_without_a_seed_gets_one_from_its_task() -> None:
    async def body(client: Conversation) -> None:
        seeds = []
        tasks: list[Any] = [
            {"name": "a", "episode_idx": 0},
            {"episode_idx": 0, "name": "a"},
            {"name": "a", "episode_idx": 1},
            {"name": "a", "seed": -1},
            {"name": "a", "seed": "1"},
            {"name": "a", "seed": True},
            {"name": "a", "ids": [1, 2], "deep": {"array": np.zeros(3), "bytes": b"\xff"}},
            {},
            None,
            "name",
        ]
        for task in tasks:
            await client.say(wire.EPISODE_START, task=task)
            seeds.append((await client.act())[3])
        assert seeds[0] == seeds[1]
        assert len(set(seeds[1:7])) == 6
        assert seeds[7] == seeds[8] == seeds[9]

    talk(body)


@pytest.mark.parametrize("fault", ["raise", "stop", "surrogate"])
def test_a_start_that_fails_is_told_at_each_observation_until_the_next_start(fault: str) -> None:
    policy = Parrot()

    async def body(client: Conversation) -> None:
        assert await client.say(wire.EPISODE_START, task={"fault": fault}) is None
        for _ in range(3):
            answer = await client.ask(wire.OBSERVATION, value=0)
            assert answer.type == wire.ERROR
            assert answer.payload["error"].startswith("RuntimeError: ")
        await client.say(wire.EPISODE_START, task={})
        assert (await client.act())[1] == 1

    metrics = talk(body, policy)
    assert metrics.errors == 3
    assert policy.batches == [1]  # nothing was predicted for the episode that did not start


@pytest.mark.parametrize("fault", ["raise", "stop", "surrogate", "shape", "count"])
def test_a_failed_observation_is_an_error_and_the_next_is_answered(fault: str) -> None:
    async def body(client: Conversation) -> None:
        await client.say(wire.EPISODE_START, task={})
        assert (await client.ask(wire.OBSERVATION, value=0, fault=fault)).type == wire.ERROR
        assert (await client.act(value=0)).shape == (len(FIELDS),)

    assert talk(body).errors == 1


def test_an_observation_of_the_wrong_kind_is_an_error() -> None:
    async def body(client: Conversation) -> None:
        for payload in ({}, {"value": "text"}, {"value": None}, {"value": {"a": 1}}, {"value": np.zeros(3)}):
            assert (await client.ask(wire.OBSERVATION, **payload)).type == wire.ERROR

    talk(body)


def test_a_long_error_is_cut() -> None:
    async def body(client: Conversation) -> None:
        answer = await client.ask(wire.OBSERVATION, value="x" * 100_000)
        assert len(answer.payload["error"]) <= 4000

    talk(body)


def test_what_a_server_does_not_take_has_no_answer() -> None:
    async def body(client: Conversation) -> None:
        assert await client.say(wire.ACTION, actions=np.zeros(3)) is None
        assert await client.say(wire.ERROR, error="mine") is None
        assert await client.say(wire.EPISODE_END) is None
        assert (await client.act()).shape == (len(FIELDS),)

    talk(body)


def test_a_session_counts_as_one_that_may_ask_while_its_episode_lasts() -> None:
    async def body(client: Conversation) -> None:
        assert not client.session.in_episode
        await client.say(wire.EPISODE_START, task={})
        assert client.session.in_episode
        await client.say(wire.EPISODE_END)
        assert not client.session.in_episode

    talk(body)
