"""When a batch goes that could still grow, learned from the policy's speed and each session's. No clock of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

FORGETTING = 0.98  # weight of a call beside the next one
RECENT = 0.2  # weight of the newest of a session's pauses
SURE = 1.5  # deviations after which a session counts as late
GAIN = 1.05  # how much more a second has to come out at: what is not sure is not waited for
STRAGGLERS = 0.05  # of a batch, who may come during its call without having been worth a wait


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
        n, s = self._n / self._weight, self._s / self._weight
        spread = self._nn / self._weight - n * n
        if spread > 1e-9:
            slope = min(max(0.0, (self._ns / self._weight - n * s) / spread), s / n)
        else:
            slope = s / n / 2  # of one size alone nothing is known
        return max(s + slope * (size - n), 1e-9)


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
    """Decides whether the next batch waits for sessions that are away.

    To go at once is best where sessions come all the time: the next batch forms during this one's call. To wait is best
    where a whole group comes back soon, measured by what a call costs whatever its size: else its halves take turns.
    So a wait is compared, in answers a second, with going now and taking those who come meanwhile next, and is worth it
    only where hardly anybody would be left for that next batch. It is never longer than the call that it holds up.
    """

    def __init__(self) -> None:
        self._latency = Latency()
        self._away: dict[str, float] = {}
        self._habits: dict[str, _Habit] = {}
        self._free_since = float("-inf")
        self._wanted = 0
        self._until = 0.0

    def arrived(self, session: str, now: float) -> None:
        """A session has an observation."""
        since = self._away.pop(session, None)
        if since is None:
            return
        if session in self._habits:
            self._habits[session].learn(now - since)
        else:
            self._habits[session] = _Habit(now - since, (now - since) / 4)

    def left(self, session: str) -> None:
        """It has no observation for now, nobody knows for how long."""
        self._away.pop(session, None)
        self._habits.pop(session, None)
        self._wanted = 0

    def answered(self, sessions: Iterable[str], seconds: float, now: float) -> None:
        """A call ended that took so long."""
        size = 0
        for session in sessions:
            self._away[session] = now
            size += 1
        self._latency.learn(size, seconds)
        self._free_since = now
        self._wanted = 0

    def wait(self, waiting: int, oldest: float, limit: int, now: float) -> float:
        """Seconds to wait before looking again, 0 to go now, with so many that wait since `oldest`; `limit`: a batch's
        size."""
        if waiting >= limit or not self._latency:
            return 0.0
        if waiting < self._wanted and now < self._until:
            return self._until - now
        self._wanted, seconds = self._plan(waiting, max(oldest, self._free_since), limit, now)
        self._until = now + seconds
        return seconds

    def _plan(self, waiting: int, since: float, limit: int, now: float) -> tuple[int, float]:
        """How many to wait for, and for how long."""
        expected = sorted(
            # One that is late may be later by as much again.
            (abs(since_ + self._habits[session].mean - now), self._habits[session].deviation)
            for session, since_ in self._away.items()
            if session in self._habits
        )
        times = [at for at, _ in expected]
        call = self._latency.of(waiting)
        meanwhile = min(bisect_right(times, call), limit)
        now_rate = (waiting + meanwhile) / (call + self._latency.of(meanwhile)) if meanwhile else waiting / call
        best, found, patience = GAIN * now_rate, (0, 0.0), call - (now - since)
        late = 0.0
        for more, (at, deviation) in enumerate(expected[: limit - waiting], 1):
            late = max(late, at + SURE * deviation)
            if late >= patience:
                break
            size = waiting + more
            end = late + self._latency.of(size)
            if bisect_right(times, end) - more > STRAGGLERS * size:
                continue
            if size / end > best:
                best, found = size / end, (size, late)
        return found
