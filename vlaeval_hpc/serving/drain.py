"""How a server that is told to leave does so: no new episode, those that run to their end, within a grace."""

from __future__ import annotations

import asyncio
import math
import signal
import time

GRACE = {signal.SIGUSR2: 75.0, signal.SIGTERM: 7.0, signal.SIGINT: 0.0}
"""Seconds from a signal to the end. Slurm warns 90 s before a time limit; our supervisor kills 10 s after SIGTERM."""


class Drain:
    """Begun by the first signal; a later one only shortens it. `refusing`: it has been told, and no episode begins."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.refusing = False
        self._leave_at = math.inf

    def begin(self, number: signal.Signals) -> None:
        """Leave within this signal's grace."""
        self._leave_at = min(self._leave_at, time.monotonic() + GRACE[number])
        self.begun.set()

    @property
    def left(self) -> float:
        """Seconds until everybody is left, done or not."""
        return max(0.0, self._leave_at - time.monotonic())
