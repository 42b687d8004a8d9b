"""robosuite: manipulation with one or two Panda arms in MuJoCo (arXiv:2009.12293; PyPI `robosuite` 1.5.2)."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.benchmarks.hold import stay
from vlaeval_hpc.benchmarks.start import start_seed
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs


class _Known(NamedTuple):
    steps: int
    words: str


SUITES: Dict[str, Dict[str, _Known]] = {
    "one_arm": {
        "Lift": _Known(400, "lift the cube"),
        "Stack": _Known(400, "stack the red cube on the green cube"),
        "PickPlaceCan": _Known(400, "put the can into its bin"),
        "PickPlaceMilk": _Known(400, "put the milk into its bin"),
        "PickPlaceBread": _Known(400, "put the bread into its bin"),
        "PickPlaceCereal": _Known(400, "put the cereal into its bin"),
        "NutAssemblySquare": _Known(400, "fit the square nut onto the square peg"),
        "NutAssemblyRound": _Known(400, "fit the round nut onto the round peg"),
        "Door": _Known(500, "open the door"),
        "ToolHang": _Known(700, "insert the frame into the base and hang the tool on it"),
    },
    "two_arm": {
        "TwoArmLift": _Known(500, "lift the pot by its handles"),
        "TwoArmHandover": _Known(500, "hand the hammer over to the other arm"),
        "TwoArmTransport": _Known(700, "bring the hammer into the other arm's bin"),
    },
}
"""robosuite's tasks that end in a success: the most steps (robomimic's, else robosuite's own 500), and our words."""

_CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand", "wrist2": "robot1_eye_in_hand"}
_STATE = ("eef_pos", "eef_quat", "gripper_qpos")


class Robosuite(Benchmark):
    """robosuite with its default controller (operational space, deltas, 20 Hz); won, and over, at the first success.

    As robomimic evaluates Lift, Can, Square, Tool Hang and Transport: 50 episodes, its step limits. Cameras
    `agentview`, `wrist` and for two arms `wrist2`: (resolution, resolution, 3) uint8, upright. State: float64, for each
    arm end effector position 3 (m), quaternion 4 (x, y, z, w), fingers 2 (m). Action: for each arm position 3,
    axis-angle 3, gripper 1, which opens below 0 and closes above, all in [-1, 1].

    An episode begins in a simulator of its own, seeded by `start_seed`; what is observed is what robosuite gives.
    """

    episodes_per_task = 50

    def __init__(self, *, seed: int, suite: str = "one_arm", resolution: int = 84) -> None:
        super().__init__(seed=seed)
        if suite not in SUITES:
            raise unknown("robosuite suite", suite, SUITES)
        self.suite = suite
        self.resolution = resolution
        self.max_steps = max(known.steps for known in SUITES[suite].values())
        arms = 1 if suite == "one_arm" else 2
        self._arms = [f"robot{i}" for i in range(arms)]
        self.action_spec = _action(arms)
        cameras = ["agentview", "wrist", "wrist2"][: arms + 1]
        state = Spec("state", 9 * arms, "_".join(["eef_pos3_quat4_gripper2"] * arms))
        self.observation_spec: Specs = {**dict.fromkeys(cameras, RGB), "state": state, "language": LANGUAGE}
        self._env: Any = None
        self._seen: Dict[str, Any] = {}
        self._words = ""
        self._limit = 0
        self._steps = 0
        self._looking = True
        self._looked = False
        self._success = False

    def select(self, names: Iterable[str]) -> None:
        """What the policy looks at; a simulator made for other cameras is released."""
        super().select(names)
        self.close()

    def tasks(self) -> List[Task]:
        """The suite's tasks, as robosuite calls them."""
        if importlib.util.find_spec("robosuite") is None:
            raise ConfigurationError(f"robosuite is not installed for {sys.executable}: install robosuite==1.5.2")
        return [{"name": name, "instruction": known.words} for name, known in SUITES[self.suite].items()]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode, in a simulator made for it."""
        name = task["name"]
        if name not in SUITES[self.suite]:
            raise unknown(f"task of {self.suite}", name, SUITES[self.suite])
        self.close()
        self._looking = True
        self._env = self._make(name, start_seed(self.seed, name, episode, bits=32))
        for camera in self.cameras:
            sensor = self._env._observables[f"{_CAMERAS[camera]}_image"]
            sensor._sensor = self._late(sensor._sensor)
        self._seen = self._env.reset()
        self._words = task["instruction"]
        self._limit, self._steps = SUITES[self.suite][name].steps, 0
        self._success = False
        self._looked = True

    def observe(self) -> Observation:
        """What was selected: `images` {camera: (h, w, 3) uint8}, `states` (9 an arm,) float64, `task_description`."""
        if self.cameras and not self._looked:
            raise RuntimeError("observe after a step without look")
        seen: Observation = {}
        if self.cameras:
            frames = {name: self._seen[f"{_CAMERAS[name]}_image"] for name in self.cameras}
            seen["images"] = {name: np.ascontiguousarray(frame[::-1]) for name, frame in frames.items()}
        if "state" in self.selected:
            seen["states"] = np.concatenate([self._seen[f"{arm}_{part}"] for arm in self._arms for part in _STATE])
        if "language" in self.selected:
            seen["task_description"] = self._words
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action; True once it has succeeded, or at the task's own step limit. Cameras are rendered where
        `look` is."""
        if self._success or self._steps >= self._limit:
            return True
        self._looking = self._looked = look
        self._seen = self._env.step(np.asarray(action, dtype=np.float64))[0]
        self._steps += 1
        self._success = bool(self._env._check_success())
        return self._success or self._steps >= self._limit

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """No motion, the grippers as they were."""
        return stay(self.action_spec, last)

    def result(self) -> Dict[str, Metric]:
        """`success`: the task's own criterion was met at some step."""
        return {"success": self._success}

    def close(self) -> None:
        """Release the simulator and its GL context."""
        held, self._env, self._seen = self._env, None, {}
        if held is not None:
            held.close()
            del held
            gc.collect()  # an old context that is freed while a new one draws would leave it garbage

    def _make(self, name: str, seed: int) -> Any:
        # MuJoCo loads a GL library as it is imported, which a node without a camera to render need not have.
        gl = "egl" if os.path.exists("/dev/nvidiactl") else "osmesa"
        gl = os.environ.setdefault("MUJOCO_GL", gl)
        if gl in ("egl", "osmesa"):
            os.environ["PYOPENGL_PLATFORM"] = gl  # MuJoCo refuses to be imported where the two differ
        try:
            import robosuite
        except Exception as error:  # a GL library that is missing or broken shows in many ways
            raise ConfigurationError(
                f"robosuite cannot be imported with MUJOCO_GL={gl}: {error}: valid: egl where there is a GPU, osmesa "
                "where there is libosmesa6"
            ) from error
        return robosuite.make(
            name,
            robots=["Panda"] * len(self._arms),
            has_renderer=False,
            has_offscreen_renderer=bool(self.cameras),
            use_camera_obs=bool(self.cameras),
            camera_names=[_CAMERAS[camera] for camera in self.cameras] or "agentview",
            camera_heights=self.resolution,
            camera_widths=self.resolution,
            control_freq=20,
            hard_reset=False,  # made a moment ago
            ignore_done=True,  # the worker counts the steps
            seed=seed,
        )

    def _late(self, sensor: Any) -> Any:
        """A camera's sensor that renders only on the step that is looked at, and gives its last frame otherwise.

        It is asked all the same: robosuite samples its sensors within a step, and another time shows another frame.
        """
        last: List[Any] = [np.zeros((self.resolution, self.resolution, 3), np.uint8)]

        def late(cache: Any) -> Any:
            if self._looking:
                last[0] = sensor(cache)
            return last[0]

        late.__modality__ = sensor.__modality__  # type: ignore[attr-defined]  # by which robosuite tells sensors apart
        return late


def _action(arms: int) -> Specs:
    found: Specs = {}
    for number in range(arms):
        end = "" if number == 0 else str(number + 1)
        found["position" + end] = Spec("position", 3, "delta_xyz", (-1.0, 1.0))
        found["rotation" + end] = Spec("rotation", 3, "axis_angle", (-1.0, 1.0))
        found["gripper" + end] = Spec("gripper", 1, "binary_close_positive", (-1.0, 1.0))
    return found
