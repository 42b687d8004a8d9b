"""CALVIN: chains of five instructions at one table, ABC to D (arXiv:2112.03227; github.com/mees/calvin)."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

STATE = Spec("state", 8, "eef_pos3_euler3_gripper2")
CHAIN = 5
SEQUENCES = 1000

_OPEN = Spec("gripper", 1, "binary_close_negative", (-1.0, 1.0))
CONTROLS: Dict[str, Specs] = {
    "delta": {
        "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
        "rotation": Spec("rotation", 3, "euler_xyz", (-3.15, 3.15)),
        "gripper": _OPEN,
    },
    "relative": {
        "position": Spec("position", 3, "calvin_rel_xyz", (-1.0, 1.0)),
        "rotation": Spec("rotation", 3, "calvin_rel_euler_xyz", (-1.0, 1.0)),
        "gripper": _OPEN,
    },
    "absolute": {
        "position": Spec("position", 3, "absolute_xyz"),
        "rotation": Spec("rotation", 3, "absolute_axis_angle", accepts=("absolute_axis_angle", "axis_angle")),
        "gripper": Spec("gripper", 1, "binary_close_positive", (-1.0, 1.0)),
    },
}
"""What an action may be: `delta`, metres and radians upon the last command, as vla-eval has it; `relative`, CALVIN's
own rel_actions, which its robot scales; `absolute`, a pose, as X-VLA gives it."""

_ARM = (0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585, 0.07999963)
_JOINTS = (-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928, 1.0)
_SLIDER = {
    "slider_left": (-0.240851662, 0.0924044687, 0.460990009),
    "slider_right": (0.070341633, 0.0924044687, 0.460990009),
}
_TABLE = ((0.0500000896, -0.120000177, 0.459990009), (0.229995412, -0.11999514, 0.45999001))


class CALVIN(Benchmark):
    """CALVIN's long-horizon evaluation: 1000 chains of five instructions, each with 360 steps; the first that is missed
    ends the chain.

    Metrics: `completed_subtasks`, whose mean is the published average length; `chain_1` to `chain_5`, whether so many
    were done; `success`, all five. Cameras `rgb_static` (200, 200, 3) and `rgb_gripper` (84, 84, 3) uint8, as CALVIN
    renders them. State: float32 (8,), end effector position (m), Euler angles (rad), gripper width (m) and command.
    Action: (7,), by `control`; the episode is the chain's number. `dataset`: the validation folder of a CALVIN data
    set, of which only .hydra/merged_config.yaml is read. `render`: gpu (EGL) or cpu (PyBullet's TinyRenderer); null:
    gpu where there is one.

    An episode has a simulator of its own. Between two instructions the policy starts anew (`restarted`).
    """

    metrics = {"success": "mean", "completed_subtasks": "mean", **{f"chain_{i}": "mean" for i in range(1, CHAIN + 1)}}
    episodes_per_task = SEQUENCES
    max_episodes = SEQUENCES
    observation_spec = {"rgb_static": RGB, "rgb_gripper": RGB, "state": STATE, "language": LANGUAGE}

    def __init__(
        self,
        *,
        seed: int,
        dataset: str = "/data/calvin/dataset/validation",
        control: str = "delta",
        steps: int = 360,
        render: Optional[str] = None,
    ) -> None:
        super().__init__(seed=seed)
        if control not in CONTROLS:
            raise unknown("benchmark.params.control", control, CONTROLS)
        if render not in (None, "gpu", "cpu"):
            raise unknown("benchmark.params.render", str(render), ("gpu", "cpu"))
        self.dataset = dataset
        self.control = control
        self.steps = steps
        self.render = render or ("gpu" if os.path.exists("/dev/nvidiactl") else "cpu")
        self.max_steps = CHAIN * steps
        self.action_spec = CONTROLS[control]
        self._known: Any = None
        self._env: Any = None
        self._pictures: Any = None
        self._chain: List[str] = []
        self._completed = 0
        self._left = 0
        self._begun: Any = None
        self._command: Any = None
        self._over = False

    def tasks(self) -> List[Task]:
        """One task, whose episodes are the chains."""
        if importlib.util.find_spec("calvin_env") is None or importlib.util.find_spec("calvin_agent") is None:
            raise ConfigurationError(
                f"CALVIN is not installed for {sys.executable}: it is on no package index: container=apptainer "
                "runs it in vla-eval's image"
            )
        return [{"name": "long_horizon", "instruction": ""}]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the chain of that number."""
        if self._known is None:
            self._known = self._load()
        sequences, _, _ = self._known
        condition, chain = sequences[episode]
        self.close()
        self._env = self._make()
        robot, scene = start_state(condition)
        # Cameras are rendered where the policy looks; CALVIN would at every step, each of them.
        self._pictures = self._env.get_camera_obs
        self._env.get_camera_obs = lambda: ({}, {})
        self._env.reset(robot_obs=robot, scene_obs=scene)
        self._chain = list(chain)
        self._completed = 0
        self._over = self.restarted = False
        self._begin()

    def observe(self) -> Observation:
        """What was selected: `images`, `states` (8,) float32, `task_description`: the instruction of now."""
        seen: Observation = {}
        if self.cameras:
            frames, _ = self._pictures()
            seen["images"] = {name: np.ascontiguousarray(frames[name]) for name in self.cameras}
        if "state" in self.selected:
            robot = self._robot()
            seen["states"] = np.concatenate([robot[:7], robot[14:15]]).astype(np.float32)
        if "language" in self.selected:
            _, _, words = self._known
            seen["task_description"] = str(words[self._chain[min(self._completed, CHAIN - 1)]][0])
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action (7,); True where the chain is done or an instruction was missed."""
        if self._over:
            return True
        self.restarted = False
        self._env.step(self._taken(np.asarray(action, dtype=np.float64)))
        self._left -= 1
        _, oracle, _ = self._known
        wanted = self._chain[self._completed]
        if oracle.get_task_info_for_set(self._begun, self._env.get_info(), {wanted}):
            self._completed += 1
            self._over = self._completed == len(self._chain)
            self.restarted = not self._over
            self._begin()
        else:
            self._over = self._left <= 0
        return self._over

    def result(self) -> Dict[str, Metric]:
        """`success`, `completed_subtasks` (0 to 5), `chain_1` to `chain_5`."""
        done = self._completed
        chain: Dict[str, Metric] = {f"chain_{i}": done >= i for i in range(1, CHAIN + 1)}
        return {"success": done == CHAIN, "completed_subtasks": done, **chain}

    def close(self) -> None:
        """Release the simulator."""
        held, self._env, self._pictures = self._env, None, None
        if held is not None:
            held.close()

    def _begin(self) -> None:
        self._left = self.steps
        self._begun = self._env.get_info()
        robot = self._robot()
        self._command = np.concatenate([robot[:6], robot[14:15]])

    def _robot(self) -> "np.ndarray[Any, Any]":
        return np.asarray(self._env.get_state_obs()["robot_obs"], dtype=np.float64)

    def _taken(self, action: "np.ndarray[Any, Any]") -> Any:
        """The action as CALVIN's environment takes it: seven numbers are relative, three parts absolute."""
        if self.control == "relative":
            return np.concatenate([action[:6], [1.0 if action[6] > 0 else -1.0]])
        if self.control == "delta":
            pose = self._command[:6] + action[:6]
            pose[3:] = (pose[3:] + np.pi) % (2 * np.pi) - np.pi
            grip = 1 if action[6] > 0 else -1
            self._command = np.concatenate([pose, [grip]])
        else:
            pose = np.concatenate([action[:3], _euler(action[3:6])])
            grip = -1 if action[6] > 0 else 1
        position, rotation = np.split(pose.astype(np.float32), 2)
        return [position, rotation, grip]

    def _make(self) -> Any:
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        from calvin_env.envs import play_table_env

        if self.render == "cpu":
            _never_egl(play_table_env.PlayTableSimEnv)
        elif "EGL_VISIBLE_DEVICES" not in os.environ:
            from calvin_env.utils.utils import get_egl_device_id

            # Of those that CUDA_VISIBLE_DEVICES leaves, the first.
            os.environ["EGL_VISIBLE_DEVICES"] = str(get_egl_device_id(0))
        return play_table_env.get_env(self.dataset, show_gui=False)

    def _load(self) -> Tuple[Any, Any, Any]:
        """The chains, the oracle that tells a task done, and the words of each task."""
        import calvin_agent
        import yaml
        from calvin_agent.evaluation.multistep_sequences import get_sequences
        from calvin_env.envs.tasks import Tasks

        root = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(calvin_agent.__file__))), "conf")
        found = []
        for part in ("callbacks/rollout/tasks/new_playtable_tasks.yaml", "annotations/new_playtable_validation.yaml"):
            with open(os.path.join(root, part), encoding="utf-8") as file:
                found.append(yaml.safe_load(file))
        return get_sequences(SEQUENCES), Tasks(found[0]["tasks"]), found[1]


def start_state(condition: Mapping[str, Any]) -> Tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Robot (15,) and scene (24,) observation that a chain starts from, as CALVIN's evaluation computes them.

    What the condition leaves open, which block lies where on the table and how it is turned, is drawn by a hash of it.
    """
    draw = np.random.RandomState(_fnv1(str(condition.values()).encode()))
    table = [np.array(place) for place in _TABLE]
    draw.shuffle(table)
    scene = np.zeros(24)
    scene[0] = 0.28 if condition["slider"] == "left" else 0.0
    scene[1] = 0.22 if condition["drawer"] == "open" else 0.0
    scene[3] = 0.088 if condition["lightbulb"] == 1 else 0.0
    scene[4], scene[5] = condition["lightbulb"], condition["led"]
    free = {"red_block": 0, "blue_block": 1 if condition["red_block"] == "table" else 0, "pink_block": 1}
    for i, (block, place) in enumerate(free.items()):
        at = 6 + 6 * i
        scene[at : at + 3] = _SLIDER.get(condition[block], table[place])
        scene[at + 5] = draw.uniform(math.pi / 2 - math.pi / 8, math.pi / 2 + math.pi / 8)
    return np.array([*_ARM, *_JOINTS]), scene


def _fnv1(data: bytes) -> int:
    """Fowler, Noll and Vo's hash 1, of 32 bits."""
    found = 0x811C9DC5
    for byte in data:
        found = (found * 0x01000193 & 0xFFFFFFFF) ^ byte
    return found


def _euler(rotation: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Angles (3,) about the fixed axes x, y, z in turn, of a rotation vector."""
    angle = float(np.linalg.norm(rotation))
    if angle < 1e-8:
        return np.zeros(3)
    x, y, z = rotation / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    matrix = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
    level = math.hypot(matrix[0, 0], matrix[1, 0])
    pitch = math.atan2(-matrix[2, 0], level)
    if level < 1e-6:  # straight up or down: yaw and roll are one
        return np.array([math.atan2(-matrix[1, 2], matrix[1, 1]), pitch, 0.0])
    return np.array([math.atan2(matrix[2, 1], matrix[2, 2]), pitch, math.atan2(matrix[1, 0], matrix[0, 0])])


def _never_egl(kind: Any) -> None:
    """Make the environment's class refuse the EGL plugin, which its data set's config asks for and which ends the
    process where there is no GPU."""
    if getattr(kind, "_never_egl", False):
        return
    made = kind.__init__

    def without(self: Any, *words: Any, **named: Any) -> None:
        made(self, *words, **{**named, "use_egl": False})

    kind.__init__ = without
    kind._never_egl = True
