"""When a batch goes that could still grow, learned from the policy's speed and each session's. No clock of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from vlaeval_hpc.serving.forecast import FRACTIONS, Sessions, forecast

FORGETTING = 0.98  # weight of a call beside the next one
RECENT = 0.2  # weight of the newest of a session's pauses, and of the newest forecast
LATE = 1.5  # how much longer than foreseen a wait may take
SHORT = 0.005  # seconds of a call below which a forecast costs more than it gains


class Latency:
    """Seconds of a call by its batch's size: a line through the recent ones, never falling."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._weight = self._n = self._s = self._nn = self._ns = 0.0

    def __bool__(self) -> bool:
        return self._weight > 0

    def learn(self, size: int, seconds: float) -> None:
        """Take a call into account; a size's first is the one that compiles."""
        if size not in self._known:
            self._known.add(size)
            return
        held = FORGETTING
        self._weight = held * self._weight + 1
        self._n = held * self._n + size
        self._s = held * self._s + seconds
        self._nn = held * self._nn + size * size
        self._ns = held * self._ns + size * seconds

    def of(self, size: int) -> float:
        """What is expected of a batch of this size."""
        fixed, each = self.line()
        return max(fixed + each * size, 1e-9)

    def line(self) -> tuple[float, float]:
        """Seconds of a call whatever its size, and of each answer; neither below 0."""
        n, s = self._n / self._weight, self._s / self._weight
        spread = self._nn / self._weight - n * n
        if spread > 1e-9:
            each = min(max(0.0, (self._ns / self._weight - n * s) / spread), s / n)
        else:
            each = s / n / 2  # of one size alone nothing is known
        return s - each * n, each


@dataclass
class _Habit:
    """How long a session is away between an answer and its next observation: mean and mean deviation, seconds."""

    mean: float
    deviation: float

    def learn(self, pause: float) -> None:
        error = pause - self.mean
        self.mean += RECENT * error
        self.deviation += RECENT * (abs(error) - self.deviation)


class Pace:
    """Decides whether the next batch waits for sessions that are away: it goes when so many wait as pays best.

    To go at once is best where sessions come all the time: the next batch forms during this one's call. To wait is best
    where a whole group comes back soon, measured by what a call costs whatever its size: else its halves take turns.
    So during each call rules are played through with what is known of everybody; the best one holds for the next batch.
    No wait is longer than the call that it holds up.
    """

    def __init__(self) -> None:
        self._latency = Latency()
        self._habits: dict[str, _Habit] = {}
        self._waiting: set[str] = set()
        self._away: dict[str, float] = {}
        self._free_since = float("-inf")
        self._rates = self._waits = np.zeros(len(FRACTIONS))
        self._forecasts = 0
        self._wanted, self._patience = 1, 0.0

    def arrived(self, session: str, now: float) -> None:
        """A session has an observation."""
        self._waiting.add(session)
        since = self._away.pop(session, None)
        if since is None:
            return
        if session in self._habits:
            self._habits[session].learn(now - since)
        else:
            self._habits[session] = _Habit(now - since, (now - since) / 4)

    def left(self, session: str) -> None:
        """It has no observation for now, nobody knows for how long."""
        self._waiting.discard(session)
        self._away.pop(session, None)
        self._habits.pop(session, None)

    def began(self, sessions: Collection[str], limit: int, now: float) -> None:
        """A call began with these; `limit` is a batch's size. There is time to think until it ends."""
        self._waiting.difference_update(sessions)
        self._wanted = 1
        if not self._latency or len(self._habits) < 2:
            return
        free = self._latency.of(len(sessions))
        if free < SHORT:
            return
        habits = self._habits.values()
        known = Sessions(
            np.array([self._ready(session, free, now) for session in self._habits]),
            np.array([h.mean for h in habits]),
            np.array([h.deviation for h in habits]),
        )
        fixed, each = self._latency.line()
        new = forecast(known, free, fixed, each, limit, self._forecasts)
        weight = RECENT if self._forecasts else 1.0
        self._rates = (1 - weight) * self._rates + weight * new.rates
        self._waits = (1 - weight) * self._waits + weight * new.waits
        self._forecasts += 1
        best = int(np.argmax(self._rates))
        self._wanted, self._patience = int(new.sizes[best]), LATE * float(self._waits[best])

    def _ready(self, session: str, free: float, now: float) -> float:
        """Seconds until it has an observation, the call ending in `free` seconds."""
        mean = self._habits[session].mean
        if session in self._away:
            # One that is late may be later by as much again.
            return abs(self._away[session] + mean - now)
        return 0.0 if session in self._waiting else free + mean

    def answered(self, sessions: Iterable[str], seconds: float, now: float) -> None:
        """A call ended that took so long."""
        size = 0
        for session in sessions:
            self._waiting.discard(session)
            self._away[session] = now
            size += 1
        self._latency.learn(size, seconds)
        self._free_since = now

    def wait(self, waiting: int, oldest: float, limit: int, now: float) -> float:
        """Seconds to wait before looking again, 0 to go now, with so many that wait since `oldest`; `limit`: a batch's
        size."""
        if waiting >= min(limit, self._wanted) or not self._away:
            return 0.0
        patience = min(self._patience, self._latency.of(waiting))
        return max(0.0, max(oldest, self._free_since) + patience - now)
