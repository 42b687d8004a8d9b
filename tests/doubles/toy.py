"""A benchmark and a policy small enough to see through, which fail on demand: for tests of everything around them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

STATE = Spec("state", 3, "toy_state")
ACTION = {"push": Spec("push", 2, "toy_push", (-1, 1))}


class Toy(Benchmark):
    """A point that drifts from a seeded start and is won when it comes near the origin.

    `faults` maps "task/episode" to what happens at step 2: raise, crash, hang, kill, or start (reset raises). A fault
    with a folder in `once` happens only the first time. On the nodes `sick` nothing starts; a
    simulator takes `hungry` MB.
    """

    metrics = {"success": "mean", "distance": "mean"}
    max_steps = 12
    episodes_per_task = 3
    max_episodes = 50
    action_spec = ACTION
    observation_spec = {"front": RGB, "state": STATE, "language": LANGUAGE}

    def __init__(self, *, seed, suite="toy", tasks=2, faults=None, once=None, pace=0.0, sick=(), hungry=0):
        super().__init__(seed=seed)
        self._suite = suite
        self._tasks = tasks
        self._faults = faults or {}
        self._once = once
        self._pace = pace
        self._sick = sick
        self._hungry = hungry
        self._meal = None

    def tasks(self):
        return [{"name": f"task-{i}", "suite": self._suite, "task_id": i} for i in range(self._tasks)]

    def reset(self, task, episode):
        self._name = task["name"]
        self._fault = self._faults.get(f"{self._name}/{episode}")
        rng = np.random.default_rng([self.seed, task["task_id"], episode])
        self._point = rng.uniform(-1, 1, 2)
        self._steps = 0
        if self._hungry and self._meal is None:
            self._meal = np.ones(self._hungry << 20, np.uint8)
        if os.environ.get("SLURMD_NODENAME") in self._sick:
            raise RuntimeError("nothing works on this node")
        if self._fault == "start" and self._happens():
            raise RuntimeError("the toy does not start")

    def observe(self):
        seen = {"task_description": self._name}
        if "state" in self.selected:
            seen["states"] = np.array([*self._point, self._steps])
        if "front" in self.selected:
            seen["images"] = {"front": np.full((8, 8, 3), self._steps, np.uint8)}
        return seen

    def step(self, action, look=True):
        time.sleep(self._pace)
        self._steps += 1
        if self._steps == 2 and self._fault and self._happens():
            if self._fault == "raise":
                raise RuntimeError("the toy broke")
            if self._fault == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self._fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._fault == "hang":
                time.sleep(3600)
        self._point = self._point + 0.05 * np.asarray(action, float)
        return bool(np.linalg.norm(self._point) < 0.2)

    def hold(self, last):
        return np.zeros(2) if last is None else last

    def result(self):
        distance = float(np.linalg.norm(self._point))
        return {"success": distance < 0.2, "distance": round(distance, 9)}

    def _happens(self):
        if self._once is None:
            return True
        mark = Path(self._once) / f"{self._name}-{self._fault}"
        if mark.exists():
            return False
        mark.touch()
        return True
