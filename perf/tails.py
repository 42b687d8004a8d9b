"""A benchmark that takes its time and nothing else: a task to load, episodes of lengths that are given."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.wire.specs import LANGUAGE, Spec

STEP = 0.05  # seconds


class Tails(Benchmark):
    """`lengths` is a file: {task: [seconds of each episode]}; to load a task takes `load` seconds."""

    max_steps = 100_000
    episodes_per_task = 1
    action_spec = {"nothing": Spec("nothing", 1, "any")}
    observation_spec = {"language": LANGUAGE}

    def __init__(self, *, seed: int, lengths: str, load: float) -> None:
        super().__init__(seed=seed)
        self._lengths: dict[str, list[float]] = json.loads(Path(lengths).read_text())
        self._load = load
        self._loaded = ""

    def tasks(self) -> list[dict[str, Any]]:
        return [{"name": name} for name in self._lengths]

    def reset(self, task: Any, episode: int) -> None:
        if task["name"] != self._loaded:
            time.sleep(self._load)
            self._loaded = task["name"]
        self._name, self._ends = task["name"], time.monotonic() + self._lengths[task["name"]][episode]

    def observe(self) -> dict[str, Any]:
        return {"task_description": self._name}

    def step(self, action: Any, look: bool = True) -> bool:
        time.sleep(max(0.0, min(STEP, self._ends - time.monotonic())))
        return time.monotonic() >= self._ends

    def result(self) -> dict[str, Any]:
        return {"success": True}
