"""What a process and all that it started have used."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree_cpu(roots: Sequence[int]) -> float:
    """CPU seconds of these processes and their descendants, those included that have ended and were waited for."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        used[pid] = sum(map(int, fields[11:15])) / TICKS  # utime, stime, cutime, cstime
    found, fresh = set(roots), set(roots)
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return sum(used.get(pid, 0.0) for pid in found)


class CpuLog:
    """Samples tree_cpu twice a second while in `with`; `at` is the CPU time by a moment, interpolated."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self._samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> CpuLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, moment: float) -> float:
        """`moment`: as time.time() tells it."""
        before = max((s for s in self._samples if s[0] <= moment), default=self._samples[0])
        after = min((s for s in self._samples if s[0] >= moment), default=self._samples[-1])
        if after[0] <= before[0]:
            return before[1]
        return before[1] + (after[1] - before[1]) * (moment - before[0]) / (after[0] - before[0])

    def _sample(self) -> None:
        while not self._stop.wait(0.5):
            self._samples.append((time.time(), tree_cpu(self._roots)))
