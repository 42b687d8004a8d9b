"""ALOHA's simulated tasks: two ViperX arms moved by joint positions (arXiv:2304.13705; PyPI `gym-aloha` 0.1.5)."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from vlaeval_hpc.benchmarks.base import Observation, Task
from vlaeval_hpc.benchmarks.hold import repeat
from vlaeval_hpc.benchmarks.lerobot_gym import LeRobotGym
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

ACTION: Specs = {"joints": Spec("joints", 14, "aloha_joints6_gripper1_left_right")}
STATE = Spec("state", 14, "aloha_joints6_gripper1_left_right")

TASKS: Dict[str, str] = {
    "transfer_cube": "Pick up the cube with the right arm and transfer it to the left arm.",
    "insertion": "Insert the peg into the socket.",
}
"""What a policy is told: the sentences of LeRobot's data sets of the two."""

_HEIGHT, _WIDTH = 480, 640


class ALOHA(LeRobotGym):
    """ALOHA's cube transfer and peg insertion as LeRobot evaluates them: 400 steps at 50 Hz, over when won.

    Camera `top`: (480, 640, 3) uint8. State and action: float64 (14,), of the left arm and then of the right, six joint
    positions (rad) and the gripper (0 closed, 1 open); actions are absolute. Metrics: `success`, the last of four
    stages, and `max_reward`, the furthest stage. A start is drawn from `seed` + episode, as `lerobot-eval` does.
    """

    max_steps = 400
    action_spec = ACTION
    observation_spec = {"top": RGB, "state": STATE, "language": LANGUAGE}

    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self._name = ""

    def tasks(self) -> List[Task]:
        """The two tasks."""
        if importlib.util.find_spec("gym_aloha") is None:
            raise ConfigurationError(f"ALOHA is not installed for {sys.executable}: install gym-aloha==0.1.5")
        return [{"name": name, "instruction": words} for name, words in TASKS.items()]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode; the simulator of the same task is used again, its data put back to zero."""
        if task["name"] != self._name:
            self.close()
            self._open(task["name"])
        self._begin(task, episode)

    def observe(self) -> Observation:
        """What was selected: `images` {top: (480, 640, 3) uint8}, `states` (14,) float64, `task_description`."""
        physics = self._env._env.physics
        seen: Observation = {}
        if self.cameras:
            seen["images"] = {"top": physics.render(height=_HEIGHT, width=_WIDTH, camera_id="top").copy()}
        if "state" in self.selected:
            seen["states"] = self._env._env.task.get_qpos(physics)
        if "language" in self.selected:
            seen["task_description"] = self._words
        return seen

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """The last joint targets again, the joints as they are before the first."""
        if last is None:
            return np.array(self._env._env.task.get_qpos(self._env._env.physics))
        return repeat(self.action_spec, last)

    def close(self) -> None:
        """Release the simulator and its GL context."""
        held, self._env, self._name = self._env, None, ""
        if held is not None:
            held._env.close()

    def _open(self, name: str) -> None:
        if name not in TASKS:
            raise unknown("ALOHA task", name, TASKS)
        # dm_control loads a GL library as it is imported, which a node without a camera to render need not have.
        gl = "egl" if os.path.exists("/dev/nvidiactl") else "osmesa"
        os.environ.setdefault("MUJOCO_GL", gl if self.cameras else "disabled")
        try:
            from gym_aloha.env import AlohaEnv
        except Exception as error:  # a GL library that is missing or broken shows in many ways
            raise ConfigurationError(
                f"ALOHA cannot be imported with MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}: valid: egl where there "
                "is a GPU, osmesa where there is libosmesa6, disabled where no camera is looked at"
            ) from error
        env = AlohaEnv(name, obs_type="pixels_agent_pos")
        # It would render three cameras at every step.
        still = {"qpos": np.zeros(STATE.dims), "images": {"top": np.zeros((0, 0, 3), np.uint8)}}
        env._env.task.get_observation = lambda physics: still
        self._env, self._name = env, name
