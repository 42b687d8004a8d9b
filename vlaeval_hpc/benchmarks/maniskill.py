"""ManiSkill3: table-top tasks of one arm, simulated on the CPU (arXiv:2410.00425; PyPI `mani-skill` 3.0.1)."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.benchmarks.hold import stay
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs, action_dim


class _Known(NamedTuple):
    steps: int
    words: str


SUITES: Dict[str, Dict[str, _Known]] = {
    "panda": {
        "PickCube-v1": _Known(50, "pick up the red cube and bring it to the goal"),
        "StackCube-v1": _Known(50, "stack the red cube on the green cube"),
        "PegInsertionSide-v1": _Known(100, "insert the orange end of the peg into the hole in the side of the box"),
        "PullCubeTool-v1": _Known(100, "pull the cube closer with the tool"),
    },
    "stick": {"PushT-v1": _Known(100, "push the T-shaped block onto the T-shaped outline")},
}
"""Tasks that need no download, by what the arm ends in. The most steps are ManiSkill's, the words ours."""

_ARM: Specs = {
    "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
    "rotation": Spec("rotation", 3, "euler_xyz", (-1.0, 1.0)),
}
_FINGERS = Spec("gripper", 1, "binary_close_negative", (-1.0, 1.0))
_CPU, _GPU = "cpu", "gpu"


class ManiSkill(Benchmark):
    """ManiSkill3's tasks under its pd_ee_delta_pose controller, 20 Hz; won, and over, at the first success.

    Camera `base`: (resolution, resolution, 3) uint8, as each task places it. State: float32, the joints' positions, 7
    (rad) and the two fingers' (m), of the stick's arm 7. Action: position 3 and Euler angles 3 of [-1, 1], of which 1
    is 0.1 m or 0.1 rad, and for fingers the gripper, 1 open to -1 closed. Metric: `success`. A start is drawn from
    `seed` + episode by ManiSkill's own reset, in a scene of its own. `render` is cpu or gpu, null: gpu where there is
    one. Vulkan is needed with or without a camera: ManiSkill makes no scene without it.
    """

    episodes_per_task = 50

    def __init__(self, *, seed: int, suite: str = "panda", resolution: int = 128, render: Optional[str] = None) -> None:
        super().__init__(seed=seed)
        if suite not in SUITES:
            raise unknown("benchmark.params.suite", suite, SUITES)
        if render not in (None, _CPU, _GPU):
            raise unknown("benchmark.params.render", str(render), (_CPU, _GPU))
        self.suite = suite
        self.resolution = resolution
        self._render = render or (_GPU if os.path.exists("/dev/nvidiactl") else _CPU)
        self.max_steps = max(known.steps for known in SUITES[suite].values())
        fingers = suite == "panda"
        self.action_spec = {**_ARM, **({"gripper": _FINGERS} if fingers else {})}
        state = Spec("state", 9, "panda_joints7_fingers2") if fingers else Spec("state", 7, "panda_joints7")
        self.observation_spec = {"base": RGB, "state": state, "language": LANGUAGE}
        self._name = ""
        self._env: Any = None
        self._words = ""
        self._limit = self._steps = 0
        self._success = False

    def tasks(self) -> List[Task]:
        """The suite's."""
        if importlib.util.find_spec("mani_skill") is None:
            raise ConfigurationError(f"ManiSkill is not installed for {sys.executable}: install mani-skill==3.0.1")
        return [{"name": n, "instruction": k.words, "suite": self.suite} for n, k in SUITES[self.suite].items()]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode, in a scene that is built anew: some tasks draw the shapes of things, too."""
        name = task["name"]
        if name not in SUITES[self.suite]:
            raise unknown(f"task of {self.suite}", name, SUITES[self.suite])
        if name != self._name:
            self.close()
            self._open(name)
        self._env.reset(seed=self.seed + episode, options={"reconfigure": True})
        self._words = task["instruction"]
        self._limit, self._steps = SUITES[self.suite][name].steps, 0
        self._success = False

    def observe(self) -> Observation:
        """What was selected: `images` {base: (h, w, 3) uint8}, `states` (9,) or (7,) float32, `task_description`."""
        seen: Observation = {}
        if self.cameras:
            given = self._env._get_obs_sensor_data()["base_camera"][
                "rgb"
            ]  # renders; what is hidden from sensors stays so
            seen["images"] = {"base": np.ascontiguousarray(given[0].cpu().numpy())}
        if "state" in self.selected:
            seen["states"] = self._env.agent.robot.get_qpos()[0].cpu().numpy().astype(np.float32)
        if "language" in self.selected:
            seen["task_description"] = self._words
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action (7,) or (6,); True once it has succeeded. Nothing is rendered here, whatever `look`."""
        if not self._success and self._steps < self._limit:
            _, _, _, _, info = self._env.step(np.asarray(action, dtype=np.float32)[None])
            self._steps += 1
            self._success = bool(info["success"][0])
        return self._success or self._steps >= self._limit

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """No motion, the gripper as it was, open before the first."""
        if last is None:
            last = np.ones(action_dim(self.action_spec))
        return stay(self.action_spec, last)

    def result(self) -> Dict[str, Metric]:
        """`success`: at some step, ManiSkill's success_once."""
        return {"success": self._success}

    def close(self) -> None:
        """Release the simulator."""
        held, self._env, self._name = self._env, None, ""
        if held is not None:
            held.close()

    def _open(self, name: str) -> None:
        import gymnasium
        import mani_skill.envs  # noqa: F401  registers them

        logging.getLogger("mani_skill").setLevel(logging.ERROR)  # of each thing's first pose, at each reset
        size = {"width": self.resolution, "height": self.resolution}
        try:
            made = gymnasium.make(
                name,
                obs_mode="state_dict",  # in which a step renders nothing
                control_mode="pd_ee_delta_pose",
                sim_backend="physx_cpu",
                render_backend=self._render,
                sensor_configs={"base_camera": size},
            )
        except RuntimeError as error:
            if not any(word in str(error).lower() for word in ("render", "vulkan", "vk::")):
                raise
            raise ConfigurationError(
                f"ManiSkill finds nothing to render on ({error}), without which it makes no scene: valid: "
                "container=apptainer; on Debian 12 mesa-vulkan-drivers of bookworm-backports; a GPU with Vulkan"
            ) from error
        self._env, self._name = made.unwrapped, name
