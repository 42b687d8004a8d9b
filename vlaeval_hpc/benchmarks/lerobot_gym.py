"""What LeRobot's two gymnasium environments share: PushT and ALOHA (PyPI gym-pusht, gym-aloha)."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric


class LeRobotGym(Benchmark):
    """Evaluated as `lerobot-eval` does: a start is drawn from `seed` + episode; won, and over, when the environment is.

    Metrics: `success`, and `max_reward`, the most that a step gave.
    """

    metrics = {"success": "mean", "max_reward": "mean"}
    episodes_per_task = 50

    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self._env: Any = None
        self._words = ""
        self._success = False
        self._most = 0.0

    def _begin(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode in the environment that is open."""
        self._env.reset(seed=self.seed + episode)
        self._words = task["instruction"]
        self._success = False
        self._most = 0.0

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action; True once it has succeeded. Nothing is rendered here, with or without `look`."""
        if not self._success:
            _, reward, done, _, _ = self._env.step(np.asarray(action, dtype=np.float64))
            self._success = bool(done)
            self._most = max(self._most, float(reward))
        return self._success

    def result(self) -> Dict[str, Metric]:
        """`success`, and `max_reward`."""
        return {"success": self._success, "max_reward": self._most}
