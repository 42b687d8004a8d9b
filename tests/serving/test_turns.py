"""What an observation costs the server, in counts: turns of its event loop, and what a waiting one holds."""

from __future__ import annotations

import asyncio
import selectors
import tracemalloc
from typing import Any

import numpy as np

from tests.serving.parrot import Parrot
from tests.serving.servers import MODEL, PATIENCE, Talker
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.serving.server import Place, PolicyServer

LOOKS = 100
PICTURES = {name: np.full((256, 256, 3), i, np.uint8) for i, name in enumerate(("front", "wrist"))}
PIXELS = sum(picture.nbytes for picture in PICTURES.values())


class Counting(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """How often somebody asked what there is to do."""

    asked = 0

    def select(self, timeout: float | None = None) -> Any:
        self.asked += 1
        return super().select(timeout)


class Holding(Parrot):
    """Says what all of Python's objects hold while it predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[int] = []

    def predict(self, observations: Any, sessions: Any) -> Any:
        self.held.append(tracemalloc.get_traced_memory()[0])
        return super().predict(observations, sessions)


def served(policy: Parrot, ask: Any) -> int:
    """Turns of the event loop while a client in another thread does `ask`, after its first look."""
    counting = Counting()

    async def run() -> int:
        ready: asyncio.Future[Rendezvous] = asyncio.get_running_loop().create_future()
        model = {**MODEL, "max_batch_size": None, "max_wait_time": None}
        server = PolicyServer("parrot", policy, model, Place())
        running = asyncio.create_task(server.run(ready.set_result))
        found = await ready

        class Found:
            url, token = found.urls[0], found.token

        def talk() -> int:
            talker = Talker(Found())  # type: ignore[arg-type]
            talker.start()
            talker.act(1, images=PICTURES)
            before = counting.asked
            ask(talker)
            turns = counting.asked - before
            talker.close()
            return turns

        try:
            assert not running.done()
            return await asyncio.wait_for(asyncio.to_thread(talk), PATIENCE)
        finally:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

    loop = asyncio.SelectorEventLoop(counting)
    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


def test_an_observation_takes_two_turns() -> None:
    """One in which it comes and goes to the policy, one in which the answer leaves."""

    def ask(talker: Talker) -> None:
        for _ in range(LOOKS):
            talker.act(1)

    # The server looks at itself once a second, and a machine may be slow.
    assert 2 * LOOKS - 2 <= served(Parrot(), ask) < 2.5 * LOOKS


def test_an_observation_is_held_once_while_the_policy_has_it() -> None:
    policy = Holding()

    def ask(talker: Talker) -> None:
        tracemalloc.start()
        try:
            for _ in range(5):
                talker.act(1)
                talker.act(1, images=PICTURES)
        finally:
            tracemalloc.stop()

    served(policy, ask)
    small, large = policy.held[1:][::2], policy.held[1:][1::2]
    # The client's own, in this process too, is gone when the last of it has come.
    for without, having in zip(small[1:], large[1:], strict=True):
        assert having - without < 1.1 * PIXELS
