"""Many sessions, one policy: observations that wait at the same time are predicted together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.serving.chunks import Actions
from vlaeval_hpc.serving.metrics import Metrics
from vlaeval_hpc.serving.pace import Pace
from vlaeval_hpc.serving.policythread import PolicyThread

T = TypeVar("T")

LARGEST_BATCH = 4096


@dataclass(eq=False)
class Request:
    """An observation that waits for the policy; `then` is None when nobody waits for the answer any more."""

    observation: Observation
    session: Session
    then: Callable[[Actions | Exception], None] | None
    since: float = field(default_factory=time.monotonic)
    outcome: Actions | Exception | None = None


class Batcher:
    """Calls the policy from one thread, with up to `max_batch_size` observations.

    A batch that is not full waits for `max_wait_time` seconds from its oldest observation, but no longer than there is
    anybody who could still join: `crowd` tells how many sessions may have an observation in flight. With None for the
    size all that wait go together, or half as many as the policy could not take at once; with None for the time Pace
    decides.
    """

    def __init__(
        self,
        policy: Policy,
        metrics: Metrics,
        *,
        max_batch_size: int | None = 1,
        max_wait_time: float | None = None,
        crowd: Callable[[], int] = lambda: 1,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.max_wait_time = max_wait_time
        self._policy = policy
        self._metrics = metrics
        self._crowd = crowd
        self._pace = Pace()
        self._bearable = LARGEST_BATCH
        self._waiting: list[Request] = []
        self._running = False
        self._looking: asyncio.Handle | None = None
        self._soon = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = PolicyThread()

    def call(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Run something else of the policy's in its thread."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                outcome = _guarded(function, *arguments)
            except Exception as error:
                _hand_over(loop, _fail, answer, error)
            else:
                _hand_over(loop, _answer, answer, outcome)

        self._thread.do(job)
        return answer

    def predict(
        self, observation: Observation, session: Session, then: Callable[[Actions | Exception], None]
    ) -> Request:
        """Have `then` called with the policy's chunk (k, dim) float32, or what it raised for this observation."""
        request = Request(observation, session, then)
        self._waiting.append(request)
        self._metrics.waiting += 1
        self._pace.arrived(session.id, request.since)
        self.look_again()
        return request

    def forget(self, request: Request) -> None:
        """Nobody waits for this any more."""
        if request.then is not None:
            request.then = None
            self._metrics.waiting -= 1

    def left(self, session: Session) -> None:
        """No observation of this session comes for now: nobody needs to wait for it."""
        self._pace.left(session.id)
        self.look_again()

    def look_again(self) -> None:
        """Decide anew whether those who wait have waited enough: they, the limits, or the crowd have changed."""
        if self._running:  # it is looked at when the call is over
            return
        if self._waiting and len(self._waiting) >= self._crowd():
            self._look()
        elif not self._soon:
            # Not here and now: others may be about to come in the same turn of the event loop.
            self._look_in(0.0)

    async def run(self) -> None:
        """Serve for ever; cancel to end. Whoever waits then hears nothing: no answer is no failure of the policy.

        Raises what is wrong with the batching itself.
        """
        try:
            await self._ended
        finally:
            self._thread.end()

    def _look_in(self, seconds: float) -> None:
        self._stop_looking()
        loop = asyncio.get_running_loop()
        self._soon = not seconds
        self._looking = loop.call_later(seconds, self._look) if seconds else loop.call_soon(self._look)

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._soon = False

    def _look(self) -> None:
        self._stop_looking()
        if self._running or self._ended.done():
            return
        # A session that left took its question along.
        self._waiting = [r for r in self._waiting if r.then is not None]
        if not self._waiting:
            return
        size = self.max_batch_size or self._bearable
        left = self._left(size)
        if left > 0:
            self._look_in(left)
            return
        batch = self._waiting[:size]
        del self._waiting[: len(batch)]
        self._running = True
        self._thread.do(partial(self._predict, batch, asyncio.get_running_loop()))
        if self.max_wait_time is None:
            self._pace.began([r.session.id for r in batch], size, time.monotonic())

    def _left(self, size: int) -> float:
        """Seconds that those who wait should wait on."""
        now, oldest = time.monotonic(), self._waiting[0].since
        if self.max_wait_time is None:
            return self._pace.wait(len(self._waiting), oldest, size, now)
        full = len(self._waiting) >= min(size, self._crowd())
        return 0.0 if full else oldest + self.max_wait_time - now

    def _predict(self, batch: list[Request], loop: asyncio.AbstractEventLoop) -> None:
        begin = time.perf_counter()
        try:
            together = self._try(batch)
            _hand_over(loop, self._predicted, batch, time.perf_counter() - begin, together)
        except BaseException as error:  # ours: nobody would be answered any more
            _hand_over(loop, _fail, self._ended, error)

    def _try(self, batch: list[Request]) -> bool:
        """Fill in the outcomes; whether the policy took the batch as one."""
        before = [dict(r.session.memory) for r in batch] if len(batch) > 1 else []
        chunks, error = self._chunks(batch)
        if error is None:
            for request, chunk in zip(batch, chunks, strict=True):
                request.outcome = chunk
            return True
        if len(batch) == 1:
            batch[0].outcome = error
            return True
        # One session's bad observation is not the others' failure: find out whose it is. They are asked as if for the
        # first time.
        for request, memory in zip(batch, before, strict=True):
            request.session.memory = memory
            self._try([request])
        return False

    def _predicted(self, batch: list[Request], seconds: float, together: bool) -> None:
        self._running = False
        good = [r for r in batch if not isinstance(r.outcome, Exception)]
        if together and good:
            self._metrics.batch_size.observe(len(batch))
            self._metrics.predict_seconds.observe(seconds)
            self._pace.answered((r.session.id for r in batch), seconds, time.monotonic())
        elif len(good) == len(batch):
            # Each could be answered alone: together they were too many, for its memory most likely.
            self._bearable = min(self._bearable, max(1, len(batch) // 2))
        self._look()  # first: the policy need not wait until all are answered
        for request in batch:
            then = request.then
            self.forget(request)
            if then is not None and request.outcome is not None:
                then(request.outcome)

    def _chunks(self, batch: Sequence[Request]) -> tuple[list[Actions], Exception | None]:
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


def _hand_over(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
        loop.call_soon_threadsafe(function, *arguments)


def _answer(future: asyncio.Future[T], outcome: T) -> None:
    if not future.done():
        future.set_result(outcome)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
