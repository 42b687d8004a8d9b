"""Many sessions, one policy: observations that wait at the same time are predicted together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.serving.chunks import Actions
from vlaeval_hpc.serving.metrics import Metrics

T = TypeVar("T")


@dataclass(eq=False)
class _Request:
    observation: Observation
    session: Session
    answer: asyncio.Future[Actions]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Calls the policy from one thread, with up to `max_batch_size` observations.

    A batch that is not full waits for `max_wait_time` seconds from its oldest observation, but no longer than there is
    anybody who could still join: `crowd` tells how many sessions may have an observation in flight.
    """

    def __init__(
        self,
        policy: Policy,
        metrics: Metrics,
        *,
        max_batch_size: int = 1,
        max_wait_time: float = 0.0,
        crowd: Callable[[], int] = lambda: 1,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.max_wait_time = max_wait_time
        self._policy = policy
        self._metrics = metrics
        self._crowd = crowd
        self._waiting: list[_Request] = []
        self._unanswered: set[_Request] = set()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run something else of the policy's in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _guarded, function, *arguments)

    async def predict(self, observation: Observation, session: Session) -> Actions:
        """The policy's chunk (k, dim), float. Raises what the policy raised for this observation."""
        request = _Request(observation, session, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._unanswered.add(request)
        self._metrics.waiting += 1
        self._arrived.set()
        try:
            return await request.answer
        finally:
            self._unanswered.discard(request)
            self._metrics.waiting -= 1

    def look_again(self) -> None:
        """Decide anew whether those who wait have waited enough: the limits, or the crowd, have changed."""
        self._arrived.set()

    async def run(self) -> None:
        """Serve for ever; cancel to end. Whoever waits then is cancelled too: no answer is no failure of the policy."""
        try:
            while True:
                batch = await self._next_batch()
                await self.call(self._predict, batch, asyncio.get_running_loop())
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            for request in self._unanswered:
                request.answer.cancel()

    async def _next_batch(self) -> list[_Request]:
        while True:
            # A session that left took its question along.
            self._waiting = [r for r in self._waiting if not r.answer.done()]
            count = len(self._waiting)
            if count:
                left = self._waiting[0].since + self.max_wait_time - time.monotonic()
                if count >= min(self.max_batch_size, self._crowd()) or left <= 0:
                    batch = self._waiting[: self.max_batch_size]
                    del self._waiting[: len(batch)]
                    return batch
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left if count else None)
            except asyncio.TimeoutError:
                pass

    def _predict(self, batch: list[_Request], loop: asyncio.AbstractEventLoop) -> None:
        begin = time.perf_counter()
        before = [dict(r.session.memory) for r in batch]
        chunks, error = self._chunks(batch)
        if error is not None and len(batch) == 1:
            loop.call_soon_threadsafe(_fail, batch[0], error)
            return
        if error is not None:
            # One session's bad observation is not the others' failure: find out whose it is. They are asked as if for
            # the first time.
            for request, memory in zip(batch, before, strict=True):
                request.session.memory = memory
                self._predict([request], loop)
            return
        self._metrics.batch_size.observe(len(batch))
        self._metrics.predict_seconds.observe(time.perf_counter() - begin)
        for request, chunk in zip(batch, chunks, strict=True):
            loop.call_soon_threadsafe(_answer, request, chunk)

    def _chunks(self, batch: list[_Request]) -> tuple[list[Actions], Exception | None]:
        try:
            answers = _guarded(self._policy.predict, [r.observation for r in batch], [r.session for r in batch])
            if len(answers) != len(batch):
                raise ValueError(f"the policy gave {len(answers)} chunks for {len(batch)} observations")
            chunks = [np.atleast_2d(np.asarray(a, dtype=np.float32)) for a in answers]
            for chunk in chunks:
                if chunk.ndim != 2 or not chunk.size:
                    raise ValueError(f"the policy gave an action chunk of shape {chunk.shape}: (k, dim) is wanted")
        except Exception as error:
            return [], error
        return chunks, None


def _guarded(function: Callable[..., T], *arguments: object) -> T:
    """What a future can carry: it refuses StopIteration, and whoever waits for it would wait for ever."""
    try:
        return function(*arguments)
    except StopIteration as error:
        raise RuntimeError("StopIteration") from error


def _answer(request: _Request, chunk: Actions) -> None:
    if not request.answer.done():
        request.answer.set_result(chunk)


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
