"""PushT: a disc pushes a T-shaped block onto its outline (arXiv:2303.04137; PyPI `gym-pusht` 0.1.8, pymunk, no GL)."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any, List, Mapping, Optional

import numpy as np

from vlaeval_hpc.benchmarks.base import Observation, Task
from vlaeval_hpc.benchmarks.hold import repeat
from vlaeval_hpc.benchmarks.lerobot_gym import LeRobotGym
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

ACTION: Specs = {"position": Spec("position", 2, "pusht_target_xy", (0.0, 512.0))}
STATE = Spec("state", 2, "pusht_agent_xy")


class PushT(LeRobotGym):
    """PushT as LeRobot and Diffusion Policy evaluate it: 300 steps at 10 Hz, won, and over, at 95 % of the outline.

    Camera `top`: (resolution, resolution, 3) uint8. State: float64 (2,), the disc's position in pixels of 512. Action:
    (2,), where the disc is to go, in the same pixels. Metrics: `success`, and `max_reward`, the most of the outline
    that was ever covered, of 95 %, as published tables have it. A start is drawn from `seed` + episode, as
    `lerobot-eval` does.
    """

    max_steps = 300
    action_spec = ACTION
    observation_spec = {"top": RGB, "state": STATE, "language": LANGUAGE}

    def __init__(self, *, seed: int, resolution: int = 96) -> None:
        super().__init__(seed=seed)
        self.resolution = resolution

    def tasks(self) -> List[Task]:
        """The one task."""
        if importlib.util.find_spec("gym_pusht") is None:
            raise ConfigurationError(f"PushT is not installed for {sys.executable}: install gym-pusht==0.1.8")
        return [{"name": "pusht", "instruction": "Push the T-shaped block onto the T-shaped target."}]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode, in a world of its own."""
        if self._env is None:
            from gym_pusht.envs import PushTEnv

            # Not pixels: those it would draw at every step.
            size = {"observation_width": self.resolution, "observation_height": self.resolution}
            self._env = PushTEnv(obs_type="state", render_mode="rgb_array", **size)
        self._begin(task, episode)

    def observe(self) -> Observation:
        """What was selected: `images` {top: (h, w, 3) uint8}, `states` (2,) float64, `task_description`."""
        seen: Observation = {}
        if self.cameras:
            seen["images"] = {"top": self._env._render()}
        if "state" in self.selected:
            seen["states"] = np.array(self._env.agent.position)
        if "language" in self.selected:
            seen["task_description"] = self._words
        return seen

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """The last target again, where the disc is before the first."""
        return np.array(self._env.agent.position) if last is None else repeat(self.action_spec, last)

    def close(self) -> None:
        """Release the simulator."""
        self._env = None
