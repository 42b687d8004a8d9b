"""What batching by a rule would yield: rules are played through with what is known of the sessions and the policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FRACTIONS = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1])
CALLS, UNCOUNTED = 16, 4  # how far it is played, and for how long the present state tells
SESSIONS = 128  # more are played by a sample
LEAST = 0.1  # of a session's usual pause

_CHANCE = np.random.default_rng(0).standard_normal((CALLS, 8 * SESSIONS + 1)) * np.sqrt(np.pi / 2)


@dataclass(frozen=True)
class Sessions:
    """Seconds from now until each has an observation, and how long it is away after an answer; all of shape (n,)."""

    ready: Floats
    pause: Floats
    deviation: Floats


@dataclass(frozen=True)
class Forecast:
    """By fraction in FRACTIONS, of the rule that a batch goes when so many of the sessions wait; all of one shape."""

    sizes: NDArray[np.intp]
    rates: Floats  # answers a second
    waits: Floats  # the longest time that anybody was waited for, seconds


def forecast(sessions: Sessions, free: float, fixed: float, each: float, limit: int, turn: int) -> Forecast:
    """Play every rule from now on, with the policy free in `free` seconds and `fixed` + `each` * n for n answers.

    Nobody is waited for longer than the call that is held up. `turn` draws the chance in the pauses.
    """
    count = len(sessions.ready)
    stride = -(-count // SESSIONS)
    pause, deviation = sessions.pause[::stride], sessions.deviation[::stride]
    played = len(pause)
    each, limit = each * stride, max(1, limit // stride)
    sizes = np.minimum(np.maximum(1, np.rint(FRACTIONS * played).astype(np.intp)), limit)
    rows, last = np.arange(len(sizes)), min(limit, played) - 1
    chance = np.roll(_CHANCE, 7 * turn, axis=1)[:, :played]
    ready = np.tile(sessions.ready[::stride], (len(sizes), 1))
    now, answers, waits = np.full(len(sizes), free), np.zeros(len(sizes)), np.zeros(len(sizes))
    since, before = now, answers
    for call in range(CALLS):
        if call == UNCOUNTED:
            since, before = now, answers
        order = np.sort(ready, axis=1)
        first = np.maximum(now, order[:, 0])
        start = np.maximum(now, np.minimum(order[rows, sizes - 1], first + fixed + each * sizes))
        taken = ready <= np.minimum(start, order[:, last])[:, None]
        size = taken.sum(axis=1)
        waits = np.maximum(waits, start - first)
        now, answers = start + fixed + each * size, answers + size
        away = np.maximum(LEAST * pause, pause + deviation * chance[call])
        ready = np.where(taken, now[:, None] + away, ready)
    return Forecast(sizes * stride, stride * (answers - before) / (now - since), waits)
