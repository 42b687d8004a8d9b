"""Meta-World: 50 tabletop tasks of a Sawyer arm (arXiv:1910.10897; PyPI `metaworld` 3.1)."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.benchmarks.hold import stay
from vlaeval_hpc.benchmarks.start import start_seed
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

ACTION: Specs = {
    "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
    "gripper": Spec("gripper", 1, "continuous_close_positive", (-1.0, 1.0)),
}
STATE = Spec("state", 39, "metaworld_obs39")

INSTRUCTIONS: Dict[str, str] = {
    "assembly-v3": "put the ring over the peg",
    "basketball-v3": "drop the basketball into the basket",
    "bin-picking-v3": "move the puck from one bin into the other bin",
    "box-close-v3": "put the lid on the box",
    "button-press-topdown-v3": "press the button from above",
    "button-press-topdown-wall-v3": "press the button behind the wall from above",
    "button-press-v3": "press the button",
    "button-press-wall-v3": "press the button behind the wall",
    "coffee-button-v3": "press the button of the coffee machine",
    "coffee-pull-v3": "pull the mug away from the coffee machine",
    "coffee-push-v3": "push the mug under the coffee machine",
    "dial-turn-v3": "turn the dial",
    "disassemble-v3": "lift the ring off the peg",
    "door-close-v3": "close the door",
    "door-lock-v3": "lock the door",
    "door-open-v3": "open the door",
    "door-unlock-v3": "unlock the door",
    "hand-insert-v3": "insert the hand into the hole",
    "drawer-close-v3": "close the drawer",
    "drawer-open-v3": "open the drawer",
    "faucet-open-v3": "open the faucet",
    "faucet-close-v3": "close the faucet",
    "hammer-v3": "hammer the nail into the wall",
    "handle-press-side-v3": "press the handle down from the side",
    "handle-press-v3": "press the handle down",
    "handle-pull-side-v3": "pull the handle up from the side",
    "handle-pull-v3": "pull the handle up",
    "lever-pull-v3": "pull the lever",
    "pick-place-wall-v3": "pick up the puck and place it at the goal behind the wall",
    "pick-out-of-hole-v3": "pick the puck out of the hole",
    "pick-place-v3": "pick up the puck and place it at the goal",
    "plate-slide-v3": "slide the plate into the net",
    "plate-slide-side-v3": "slide the plate into the net from the side",
    "plate-slide-back-v3": "slide the plate back out of the net",
    "plate-slide-back-side-v3": "slide the plate back out of the net to the side",
    "peg-insert-side-v3": "insert the peg into the hole from the side",
    "peg-unplug-side-v3": "unplug the peg from the side",
    "soccer-v3": "push the ball into the net",
    "stick-push-v3": "push the thermos with the stick",
    "stick-pull-v3": "pull the thermos with the stick",
    "push-v3": "push the puck to the goal",
    "push-wall-v3": "push the puck around the wall to the goal",
    "push-back-v3": "push the puck back to the goal",
    "reach-v3": "reach the goal",
    "reach-wall-v3": "reach the goal behind the wall",
    "shelf-place-v3": "place the block on the shelf",
    "sweep-into-v3": "sweep the block into the hole",
    "sweep-v3": "sweep the block off the table",
    "window-open-v3": "open the window",
    "window-close-v3": "close the window",
}
"""What a policy is told, for each environment in MT50's order.

Not in the words of the paper's appendix: those are the same for push and push-back.
"""

_BC5 = ("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3")
_MT10 = (
    *_BC5,
    "drawer-close-v3",
    "button-press-topdown-v3",
    "peg-insert-side-v3",
    "window-open-v3",
    "window-close-v3",
)

SUITES: Dict[str, Tuple[str, ...]] = {"bc5": _BC5, "mt10": _MT10, "mt50": tuple(INSTRUCTIONS)}
"""bc5 is MT10's first five, which the policy `bc` has learned; mt10 and mt50 are Meta-World's own sets."""

_FRAME = 256


class MetaWorld(Benchmark):
    """Meta-World with the goal in the observation; an episode is won, and over, at its first success.

    As Meta-World's own `evaluation` counts: 50 starts a task, 500 steps at most. Starts are drawn from the published
    ranges, by `start_seed`. State: `metaworld_obs39`, float64. Camera: `corner2`, (256, 256, 3) uint8, upright. Action:
    (4,) in [-1, 1], beyond which the simulator clips.

    The look after a reset is the one that Meta-World 3.1 gives: in half of the tasks it shows the goal's mark, and in a
    fifth of them an object, where it was drawn first and not where it is (by up to 0.2 m), until the first step.
    """

    max_steps = 500
    episodes_per_task = 50
    action_spec = ACTION
    observation_spec = {"corner2": RGB, "state": STATE, "language": LANGUAGE}

    def __init__(self, *, seed: int, suite: str = "bc5") -> None:
        super().__init__(seed=seed)
        if suite not in SUITES:
            raise unknown("Meta-World suite", suite, SUITES)
        self.suite = suite
        self._name = ""
        self._env: Any = None
        self._renderer: Any = None
        self._state: Optional["np.ndarray[Any, Any]"] = None
        self._instruction = ""
        self._success = False

    def tasks(self) -> List[Task]:
        """The suite's environments: `name` as Meta-World has it, `instruction` as the policy is told it."""
        if importlib.util.find_spec("metaworld") is None:
            raise ConfigurationError(f"Meta-World is not installed for {sys.executable}: install metaworld==3.1.1")
        return [{"name": name, "instruction": INSTRUCTIONS[name]} for name in SUITES[self.suite]]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode; the simulator of the same task is used again.

        An episode is the same, bit for bit, as in a simulator of its own: tests/benchmarks/metaworld_checks.py compares
        them in all 50 tasks.
        """
        if task["name"] != self._name:
            self.close()
            self._open(task["name"])
        # Twice: the goal's mark in the first picture lies where a pass of reset put it that began from the data of the
        # episode before, and differs by some 1e-5 m. The second time what was before is this episode's own start.
        for _ in range(2):
            self._env.seed(start_seed(self.seed, self._name, episode))
            self._state, _ = self._env.reset()
        self._instruction = task["instruction"]
        self._success = False

    def observe(self) -> Observation:
        """What was selected: `images` {corner2: (256, 256, 3) uint8}, `states` (39,) float64, `task_description`."""
        seen: Observation = {}
        if self.cameras:
            seen["images"] = {"corner2": self._frame()}
        if "state" in self.selected:
            seen["states"] = self._state
        if "language" in self.selected:
            seen["task_description"] = self._instruction
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action (4,); True once it has succeeded. Nothing is rendered here, with or without `look`."""
        # The simulator would compute its next target in float32 from float32: the wire's dtype shall decide nothing.
        self._state, _, _, _, info = self._env.step(np.asarray(action, dtype=np.float64))
        self._success = self._success or bool(info["success"])
        return self._success

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """No motion, the gripper as it was."""
        return stay(self.action_spec, last)

    def result(self) -> Dict[str, Metric]:
        """`success`: the task's own criterion was met at some step."""
        return {"success": self._success}

    def close(self) -> None:
        """Release the simulator and its GL context."""
        held = (self._renderer, self._env)
        # Forgotten first: what fails to close, after an error in native code, must not be used again.
        self._renderer = self._env = None
        self._name = ""
        for part in held:
            if part is not None:
                part.close()

    def _open(self, name: str) -> None:
        if name not in INSTRUCTIONS:
            raise unknown("Meta-World task", name, INSTRUCTIONS)
        # MuJoCo loads a GL library as it is imported, which a node without a camera to render need not have.
        gl = "egl" if os.path.exists("/dev/nvidiactl") else "osmesa"
        os.environ.setdefault("MUJOCO_GL", gl if self.cameras else "disabled")
        try:
            from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
        except Exception as error:  # a GL library that is missing or broken shows in many ways
            raise ConfigurationError(
                f"Meta-World cannot be imported with MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}: valid: egl where "
                "there is a GPU, osmesa where there is libosmesa6, disabled where no camera is looked at"
            ) from error

        env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[name + "-goal-observable"]()
        env._freeze_rand_vec = False  # each reset draws a start
        env.seeded_rand_vec = True  # from the environment's own generator, not numpy's global one
        env.max_path_length = sys.maxsize  # the worker counts the steps
        self._env, self._name = env, name

    def _frame(self) -> "np.ndarray[Any, Any]":
        if self._renderer is None:
            import mujoco

            self._renderer = mujoco.Renderer(self._env.model, _FRAME, _FRAME)
        self._renderer.update_scene(self._env.data, camera="corner2")
        # This camera hangs upside down: a half turn, as a flip of the rows alone would show the mirror image.
        return np.ascontiguousarray(self._renderer.render()[::-1, ::-1])
