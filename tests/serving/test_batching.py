"""Observations that wait together are predicted together, and fail alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from tests.serving.parrot import Parrot
from vlaeval_hpc.policies.base import Observation, Session
from vlaeval_hpc.serving.batching import Batcher
from vlaeval_hpc.serving.metrics import Metrics

SOON = 20.0


def with_batcher(
    policy: Parrot, body: Callable[[Batcher], Awaitable[None]], crowd: int = 100, **limits: Any
) -> Metrics:
    """Run `body` beside a running batcher, and end both."""
    metrics = Metrics()

    async def run() -> None:
        batcher = Batcher(policy, metrics, crowd=lambda: crowd, **limits)
        running = asyncio.create_task(batcher.run())
        try:
            await asyncio.wait_for(body(batcher), SOON)
        finally:
            running.cancel()
            await asyncio.wait((running,))

    asyncio.run(run())
    return metrics


async def asked(batcher: Batcher, observation: Observation, session: Session) -> Any:
    """The chunk; raises what came instead."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    request = batcher.predict(observation, session, told.set_result)
    try:
        outcome = await told
    except asyncio.CancelledError:
        batcher.forget(request)
        raise
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def sessions(count: int) -> list[Session]:
    return [Session(str(i)) for i in range(count)]


def test_a_full_batch_goes_at_once() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        answers = await asyncio.gather(*(asked(batcher, {"value": i}, s) for i, s in enumerate(sessions(8))))
        assert [a[0, 0] for a in answers] == list(range(8))

    metrics = with_batcher(policy, body, max_batch_size=4, max_wait_time=SOON)
    assert policy.batches == [4, 4]
    assert metrics.waiting == 0


def test_a_batch_waits_no_longer_than_anybody_can_join() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        await asyncio.gather(*(asked(batcher, {"value": 0}, s) for s in sessions(3)))

    with_batcher(policy, body, crowd=3, max_batch_size=64, max_wait_time=SOON)
    assert policy.batches == [3]


def test_a_batch_that_is_not_full_goes_after_its_wait() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        await asyncio.gather(*(asked(batcher, {"value": 0}, s) for s in sessions(2)))

    with_batcher(policy, body, max_batch_size=64, max_wait_time=0.05)
    assert sum(policy.batches) == 2


def test_without_batching_each_goes_alone() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        await asyncio.gather(*(asked(batcher, {"value": 0}, s) for s in sessions(5)))

    with_batcher(policy, body)
    assert policy.batches == [1] * 5


def test_what_changes_is_looked_at_by_those_who_wait() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        first = asyncio.create_task(asked(batcher, {"value": 0}, Session("a")))
        await asyncio.sleep(0.05)
        assert not first.done()
        batcher.max_wait_time = 0.0
        batcher.look_again()
        await first

    with_batcher(policy, body, max_batch_size=64, max_wait_time=3600)


@pytest.mark.parametrize("fault", ["raise", "stop", "shape", "memory"])
def test_only_the_bad_observation_fails(fault: str) -> None:
    async def body(batcher: Batcher) -> None:
        several = sessions(4)
        seen = [{"value": i, "fault": fault if i == 2 else None} for i in range(4)]
        answers = await asyncio.gather(
            *(asked(batcher, o, s) for o, s in zip(seen, several, strict=True)), return_exceptions=True
        )
        assert isinstance(answers[2], Exception)
        good = [a for i, a in enumerate(answers) if i != 2]
        # sum, looks: each session was shown its own observation, once.
        assert [tuple(np.asarray(a)[0, :2]) for a in good] == [(0, 1), (1, 1), (3, 1)]

    metrics = with_batcher(Parrot(), body, max_batch_size=4, max_wait_time=SOON)
    assert metrics.waiting == 0


def test_too_few_answers_fail_those_who_asked_badly() -> None:
    async def body(batcher: Batcher) -> None:
        seen = [{"value": 1}, {"value": 2, "fault": "count"}]
        answers = await asyncio.gather(
            *(asked(batcher, o, s) for o, s in zip(seen, sessions(2), strict=True)), return_exceptions=True
        )
        assert np.asarray(answers[0])[0, 0] == 1
        assert "0 chunks for 1 observations" in str(answers[1])

    with_batcher(Parrot(), body, max_batch_size=2, max_wait_time=SOON)


def test_too_many_at_once_are_halved() -> None:
    """A batch fails whose members succeed alone, as where a GPU's memory does not hold it: later ones are smaller."""

    class Small(Parrot):
        def predict(self, observations: Any, given: Any) -> Any:
            if len(observations) > 5:
                raise MemoryError("too many")
            return super().predict(observations, given)

    policy = Small()

    async def body(batcher: Batcher) -> None:
        several = sessions(16)
        for look in range(1, 5):
            answers = await asyncio.gather(*(asked(batcher, {"value": 1}, s) for s in several))
            assert [a[0, 1] for a in answers] == [look] * 16

    with_batcher(policy, body, max_batch_size=None)
    alone = 16 + 8  # found out one by one, twice
    assert policy.batches[:16] == [1] * 16 and policy.batches.count(1) == alone
    assert max(policy.batches) == 4 and sum(policy.batches) == 4 * 16


def test_without_limits_all_that_wait_go_together() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        await asyncio.gather(*(asked(batcher, {"value": 0}, s) for s in sessions(9)))

    with_batcher(policy, body, max_batch_size=None)
    assert policy.batches == [9]


def test_the_policy_is_called_from_one_thread() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        await batcher.call(policy.load)
        several = sessions(6)
        await asyncio.gather(*(batcher.call(policy.reset, s) for s in several))
        await asyncio.gather(*(asked(batcher, {"value": 0}, s) for s in several))

    with_batcher(policy, body, max_batch_size=4)
    assert len(policy.threads) == 1
    assert threading.get_ident() not in policy.threads


@pytest.mark.parametrize("fault", ["raise", "stop"])
def test_what_reset_raises_reaches_who_asked(fault: str) -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        with pytest.raises(RuntimeError):
            await batcher.call(policy.reset, Session("a", task={"fault": fault}))
        assert (await asked(batcher, {"value": 5}, Session("b")))[0, 0] == 5

    with_batcher(policy, body)


def test_a_session_that_left_takes_its_question_along() -> None:
    policy = Parrot()

    async def body(batcher: Batcher) -> None:
        several = sessions(3)
        gone = asyncio.create_task(asked(batcher, {"value": 0}, several[0]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(*(asked(batcher, {"value": 0}, s) for s in several[1:]))

    with_batcher(policy, body, max_batch_size=2, max_wait_time=SOON)
    assert policy.batches == [2]


def test_at_the_end_those_who_wait_hear_nothing_and_nobody_waits_for_the_policy() -> None:
    """An error would be recorded as the policy's; a broken connection is asked again elsewhere."""
    policy = Parrot(latency=3)

    async def run() -> None:
        batcher = Batcher(policy, Metrics())
        running = asyncio.create_task(batcher.run())
        told: list[Any] = []
        for session in sessions(2):
            batcher.predict({"value": 0}, session, told.append)
        await asyncio.sleep(0.2)
        begin = time.monotonic()
        running.cancel()
        await asyncio.wait((running,))
        assert time.monotonic() - begin < 2
        await asyncio.sleep(0.1)
        assert not told

    asyncio.run(run())
