"""Batching that needs no tuning, by a simulated clock: against the best fixed size and wait that a search finds."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlaeval_hpc.serving.pace import Latency, Pace

LIMIT = 4096
Wait = Callable[[int, float, float], float]  # how many wait, since when, now
Answered = Callable[[list[int], float, float], None]


def throughput(
    fixed: float,
    each: float,
    pauses: Sequence[float],
    size: int,
    wait: Wait,
    arrived: Callable[[int, float], None] = lambda session, now: None,
    answered: Answered = lambda sessions, seconds, now: None,
    jitter: float = 0.2,
) -> float:
    """Answers a second of an accelerator that needs `fixed` + `each` * n, with sessions that pause so long between."""
    rng = random.Random(0)
    order = itertools.count()
    events: list[tuple[float, int, str, list[int]]] = []
    for i, pause in enumerate(pauses):
        heapq.heappush(events, (rng.random() * pause, next(order), "observation", [i]))
    waiting: list[tuple[int, float]] = []
    busy, count, now, timer = False, 0, 0.0, -1
    end = 400 * (fixed + each * len(pauses) / 2) + 20 * max(pauses)
    while now < end:
        now, number, kind, sessions = heapq.heappop(events)
        if kind == "timer" and number != timer:
            continue
        if kind == "observation":
            waiting += [(sessions[0], now)]
            arrived(sessions[0], now)
        if kind == "answer":
            busy = False
            count += len(sessions)
            answered(sessions, fixed + each * len(sessions), now)
            for i in sessions:
                heapq.heappush(
                    events, (now + pauses[i] * rng.lognormvariate(0, jitter), next(order), "observation", [i])
                )
        if busy or not waiting or (events and events[0][0] == now):
            continue
        seconds = wait(len(waiting), waiting[0][1], now)
        timer = next(order)
        if seconds > 0:
            heapq.heappush(events, (now + seconds, timer, "timer", []))
            continue
        batch = [i for i, _ in waiting[:size]]
        del waiting[:size]
        busy = True
        heapq.heappush(events, (now + fixed + each * len(batch), next(order), "answer", batch))
    return count / now


def of_fixed(fixed: float, each: float, pauses: Sequence[float], size: int, longest: float, jitter: float) -> float:
    crowd = len(pauses)

    def wait(waiting: int, oldest: float, now: float) -> float:
        left = oldest + longest - now
        return 0.0 if waiting >= min(size, crowd) or left < 1e-9 else left

    return throughput(fixed, each, pauses, size, wait, jitter=jitter)


def of_pace(fixed: float, each: float, pauses: Sequence[float], jitter: float) -> float:
    pace = Pace()
    waiting: list[str] = []

    def arrived(session: int, now: float) -> None:
        waiting.append(str(session))
        pace.arrived(str(session), now)

    def wait(count: int, oldest: float, now: float) -> float:
        seconds = pace.wait(count, oldest, LIMIT, now)
        if not seconds:
            pace.began(waiting, LIMIT, now)
            waiting.clear()
        return seconds

    def answered(sessions: list[int], seconds: float, now: float) -> None:
        pace.answered(map(str, sessions), seconds, now)

    return throughput(fixed, each, pauses, LIMIT, wait, arrived, answered, jitter)


def uneven(least: float, most: float, count: int = 50) -> list[float]:
    rng = random.Random(1)
    return [rng.uniform(least, most) for _ in range(count)]


@pytest.mark.parametrize(
    ("fixed", "each", "pauses"),
    [
        (0.05, 0.002, uneven(0.1, 0.5)),
        (0.05, 0.002, uneven(0.02, 0.2)),
        (0.02, 0.005, uneven(0.05, 1.0)),
        (0.1, 0.001, uneven(0.01, 0.05)),
        (0.1, 0.001, [0.02] * 45 + [2.0] * 5),
        (0.2, 0.002, [0.1] * 50),
        (0.05, 0.002, uneven(0.02, 0.05, 4)),
        (0.05, 0.002, uneven(1.0, 10.0)),
        (0.04, 0.001, uneven(0.005, 0.03)),
        (0.04, 0.001, uneven(0.005, 0.2, 16)),
        (0.04, 0.001, uneven(0.005, 0.03, 300)),
    ],
)
@pytest.mark.parametrize("jitter", [0.05, 0.2])
def test_it_reaches_the_best_fixed_setting(fixed: float, each: float, pauses: list[float], jitter: float) -> None:
    sizes = {1, 4, 16, len(pauses) // 2, len(pauses) * 9 // 10, len(pauses)}
    waits = (0.0, 0.1 * fixed, 0.5 * fixed, fixed, 2 * fixed)
    best = max(of_fixed(fixed, each, pauses, size, wait, jitter) for size in sizes - {0} for wait in waits)
    assert of_pace(fixed, each, pauses, jitter) >= 0.97 * best


@given(st.floats(1e-4, 10), st.floats(0, 1), st.lists(st.integers(1, 100), min_size=4, max_size=60))
def test_a_line_is_learned(fixed: float, each: float, sizes: list[int]) -> None:
    latency = Latency()
    for size in sizes * 2:
        latency.learn(size, fixed + each * size)
    if len(set(sizes)) > 1:
        for size in (1, 50, 100):
            assert latency.of(size) == pytest.approx(fixed + each * size, rel=1e-3)
    assert latency.of(min(sizes)) <= latency.of(max(sizes))


def test_what_compiles_first_is_not_taken_for_the_rule() -> None:
    latency = Latency()
    assert not latency
    for size, seconds in ((4, 60.0), (4, 0.1), (2, 60.0), (2, 0.1)):
        latency.learn(size, seconds)
    assert latency.of(4) == pytest.approx(0.1)


Events = st.lists(st.tuples(st.sampled_from("aaalw"), st.integers(0, 7), st.floats(0, 0.5)), max_size=60)


@settings(max_examples=300)
@given(Events, st.floats(0.001, 0.5), st.integers(1, 8))
def test_nobody_is_held_up_for_longer_than_a_call_takes(events: object, call: float, limit: int) -> None:
    """Whatever sessions do: a wait is over before the call that it holds up would have been, and all of them end."""
    assert isinstance(events, list)
    pace, now = Pace(), 0.0
    pace.answered(["x"], call, now)
    pace.answered(["x"], call, now)
    waiting: dict[str, float] = {}
    for kind, number, seconds in events:
        now += seconds
        session = str(number)
        if kind == "l":
            pace.left(session)
            waiting.pop(session, None)
        elif session not in waiting:
            waiting[session] = now
            pace.arrived(session, now)
        if not waiting or kind != "w":
            continue
        begin, left = now, pace.wait(len(waiting), min(waiting.values()), limit, now)
        if len(waiting) >= limit:
            assert left == 0
        while left > 0:
            now += left
            assert now - begin <= pace._latency.of(len(waiting)) + 1e-9
            left = pace.wait(len(waiting), min(waiting.values()), limit, now)
        batch = list(waiting)[:limit]
        pace.began(batch, limit, now)
        now += call
        pace.answered(batch, call, now)
        for session in batch:
            del waiting[session]


def test_who_left_is_not_waited_for() -> None:
    def paced() -> Pace:
        pace = Pace()
        for turn in range(5):
            for session in "ab":
                pace.arrived(session, 1.1 * turn)
            pace.began("ab", LIMIT, 1.1 * turn)
            pace.answered("ab", 1.0, 1.1 * turn + 1.0)
        pace.arrived("a", 5.5)
        return pace

    assert 0 < paced().wait(1, 5.5, LIMIT, 5.5) < 1
    alone = paced()
    alone.left("b")
    assert alone.wait(1, 5.5, LIMIT, 5.5) == 0
