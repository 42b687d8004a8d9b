"""How long a command takes at best: what others do on the machine only adds."""

from __future__ import annotations

import resource
import subprocess
import time
from typing import NamedTuple

ROUNDS = 5


class Best(NamedTuple):
    """Least wall and CPU seconds of some fresh processes; what the last one printed."""

    seconds: float
    cpu: float
    said: str


def best_of(command: list[str]) -> Best:
    """Run a command ROUNDS times, from start to end. Raises CalledProcessError where it fails."""
    walls, cpus = [], []
    said = ""
    for _ in range(ROUNDS):
        begin, used = time.perf_counter(), _children_cpu()
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        walls.append(time.perf_counter() - begin)
        cpus.append(_children_cpu() - used)
    return Best(min(walls), min(cpus), said)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
