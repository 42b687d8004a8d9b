"""How fast a simulator steps where nobody makes it wait: `worker tune` answers questions of launch.tuning's."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.wire.messages import OBSERVATION, Message
from vlaeval_hpc.wire.specs import action_dim
from vlaeval_hpc.worker.simulator import make_benchmark


class Stepper:
    """Answers, first {benchmark, select, task, max_steps, keep}: where the first observation is kept, null: nowhere;
    then {seconds, chunk}: how long to step, looking once a chunk."""

    def __init__(self) -> None:
        self._stepping: Iterator[None] = iter(())
        self._chunk = 1

    def answer(self, question: Dict[str, Any]) -> Dict[str, Any]:
        """Of the first {reset, memory}: seconds, and bytes at most; of the others {steps, seconds}."""
        if "benchmark" in question:
            benchmark = make_benchmark(question["benchmark"])
            benchmark.select(question["select"])
            began = time.perf_counter()
            benchmark.reset(question["task"], 0)
            seconds = time.perf_counter() - began
            seen = benchmark.observe()
            if question["keep"]:
                Path(question["keep"]).write_bytes(Message(OBSERVATION, seen, 1).pack())
            self._stepping = self._steps(benchmark, question["task"], int(question["max_steps"]))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            return {"reset": seconds, "memory": memory}
        self._chunk = int(question["chunk"])
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < question["seconds"] or steps % self._chunk:
            next(self._stepping)
            steps += 1
        return {"steps": steps, "seconds": time.perf_counter() - began}

    def _steps(self, benchmark: Benchmark, task: Dict[str, Any], max_steps: int) -> Iterator[None]:
        """One after the other, for ever; an episode that is over begins again."""
        still = np.zeros(action_dim(benchmark.action_spec), np.float32)
        while True:
            for step in range(1, max_steps + 1):
                look = step % self._chunk == 0
                done = benchmark.step(still, look)
                if look and not done:
                    benchmark.observe()
                yield
                if done:
                    break
            benchmark.reset(task, 0)
