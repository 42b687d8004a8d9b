"""SimplerEnv: real robots' tasks in simulation, by visual matching and variant aggregation (arXiv:2405.05941)."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

ACTION: Specs = {
    "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
    "rotation": Spec("rotation", 3, "axis_angle", (-3.15, 3.15), accepts=("axis_angle", "euler_xyz")),
    "gripper": Spec(
        "gripper", 1, "binary_open_01", (0.0, 1.0), accepts=("binary_open_01", "binary_close_positive", "continuous_01")
    ),
}
STATE = Spec("state", 8, "eef_pos3_quat4wxyz_open1")

MATCHING: Dict[str, Tuple[str, ...]] = {
    "widowx": ("widowx_stack_cube", "widowx_carrot_on_plate", "widowx_spoon_on_towel", "widowx_put_eggplant_in_basket"),
    "google_robot": (
        "google_robot_pick_coke_can",
        "google_robot_move_near",
        "google_robot_open_drawer",
        "google_robot_close_drawer",
        "google_robot_place_apple_in_closed_top_drawer",
    ),
}
"""Visual matching: SimplerEnv's prepackaged environments, 24 episodes each."""

AGGREGATION = ("pick_coke_can_va", "move_near_va", "drawer_va", "put_in_drawer_va")
SUITES = (*MATCHING, *AGGREGATION)
WINS = ("truncation", "early_stop", "accumulate")
GRIPPERS = ("binary", "sticky")

_STICKY = 15  # steps that a gripper command of the Google robot is held
_CAMERAS = {"google_robot": "overhead_camera", "widowx": "3rd_view_camera"}


class Variant(NamedTuple):
    """An environment of variant aggregation: what gymnasium makes it of, and where robot and objects start."""

    env: str
    scene: str
    arguments: Dict[str, Any]
    starts: Dict[str, Any]


class SimplerEnv(Benchmark):
    """SimplerEnv under vla-eval's conventions.

    Suites: `widowx` and `google_robot` by visual matching; pick_coke_can_va (33 variants), move_near_va (10), drawer_va
    (42) and put_in_drawer_va (7), each a task, over SimplerEnv's grids of starts. An episode is a start of the grid and
    has an environment of its own; nothing is drawn by `seed`. `win`: `truncation`, success is that of the last step;
    `early_stop`, the first success ends the episode; `accumulate`, any success counts. `gripper`: `binary`, open above
    0.5; `sticky`, the Google robot's relative command, held for 15 steps.

    Camera `primary`: uint8, the robot's own. State: float32 (8,), end effector in the base's frame, position (m) and
    quaternion (w, x, y, z), and how open the gripper is. Beside it go base_pose and tcp_pose. Action: (7,).
    """

    action_spec = ACTION
    observation_spec = {"primary": RGB, "state": STATE, "language": LANGUAGE}

    def __init__(
        self,
        *,
        seed: int,
        suite: str = "widowx",
        win: str = "truncation",
        gripper: str = "binary",
        max_episode_steps: Optional[int] = None,
        control_mode: Optional[str] = None,
    ) -> None:
        super().__init__(seed=seed)
        for key, value, valid in (("suite", suite, SUITES), ("win", win, WINS), ("gripper", gripper, GRIPPERS)):
            if value not in valid:
                raise unknown(f"benchmark.params.{key}", value, valid)
        self.suite = suite
        self.win = win
        self.gripper = gripper
        self._limits = {
            **({"control_mode": control_mode} if control_mode is not None else {}),
            **({"max_episode_steps": max_episode_steps} if max_episode_steps is not None else {}),
        }
        self._variants = variants(suite) if suite in AGGREGATION else {}
        self._grids = {name: grid(variant.starts) for name, variant in self._variants.items()}
        self.episodes_per_task = min(map(len, self._grids.values())) if self._grids else 24
        if self._grids:
            self.max_episodes = self.episodes_per_task
        self.max_steps = max_episode_steps or 300  # the environment's own limit comes before
        self._env: Any = None
        self._seen: Any = None
        self._words = ""
        self._won = self._ever = self._over = False
        self._held, self._repeats = 0.0, 0

    def tasks(self) -> List[Task]:
        """SimplerEnv's tasks, or the variants of one; what the policy is told, the environment says."""
        if importlib.util.find_spec("simpler_env") is None:
            raise ConfigurationError(
                f"SimplerEnv is not installed for {sys.executable}: it is on no package index: container=apptainer "
                "runs it in vla-eval's image"
            )
        return [{"name": name, "suite": self.suite} for name in self._variants or MATCHING[self.suite]]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode, in an environment made for it."""
        self.close()
        import simpler_env

        name = task["name"]
        if self._variants:
            import gymnasium

            variant, options = self._variants[name], self._grids[name][episode]
            made = {"obs_mode": "rgbd", **variant.arguments, **self._limits, "scene_name": variant.scene}
            self._env = gymnasium.make(variant.env, **made)
        else:
            self._env = simpler_env.make(name, **self._limits)
            options = {"obj_init_options": {"episode_id": episode}}
        self._seen, _ = self._env.reset(options=options)
        self._words = str(self._env.unwrapped.get_language_instruction())
        self._won = self._ever = self._over = False
        self._held, self._repeats = 0.0, 0

    def observe(self) -> Observation:
        """What was selected: `images` {primary: (h, w, 3) uint8}, `states` (8,) float32, `task_description`."""
        seen: Observation = {}
        if self.cameras:
            robot = str(self._env.unwrapped.robot_uid)
            camera = next(camera for kind, camera in _CAMERAS.items() if kind in robot)
            seen["images"] = {"primary": np.ascontiguousarray(self._seen["image"][camera]["rgb"])}
        if "state" in self.selected:
            base = np.asarray(self._seen["agent"]["base_pose"], dtype=np.float64)
            tcp = np.asarray(self._seen["extra"]["tcp_pose"], dtype=np.float64)
            opened = 1.0 - float(self._env.unwrapped.agent.get_gripper_closedness())
            seen["states"] = np.array([*in_frame(base, tcp), opened], dtype=np.float32)
            seen["base_pose"], seen["tcp_pose"] = base.astype(np.float32), tcp.astype(np.float32)
        if "language" in self.selected:
            seen["task_description"] = self._words
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action (7,); True where the episode is over by `win`. The environment renders at every step."""
        if self._over:
            return True
        taken = np.asarray(action, dtype=np.float64)
        grip = self._sticky(taken[6]) if self.gripper == "sticky" else (1.0 if taken[6] > 0.5 else -1.0)
        self._seen, _, won, truncated, _ = self._env.step(np.array([*taken[:6], grip]))
        self._won = bool(won)
        self._ever = self._ever or self._won
        self._over = bool(truncated) or (self.win == "early_stop" and self._won)
        return self._over

    def result(self) -> Dict[str, Metric]:
        """`success`, by `win`."""
        return {"success": self._ever if self.win == "accumulate" else self._won}

    def close(self) -> None:
        """Release the simulator."""
        held, self._env, self._seen = self._env, None, None
        if held is not None:
            held.close()

    def _sticky(self, wanted: float) -> float:
        """The Google robot's relative gripper: a command above a half is held for a while, whatever comes."""
        relative = -(2.0 * wanted - 1.0)
        if abs(relative) > 0.5 and not self._held:
            self._held = relative
        if self._held:
            relative = self._held
            self._repeats += 1
            if self._repeats == _STICKY:
                self._held, self._repeats = 0.0, 0
        return relative


def variants(suite: str) -> Dict[str, Variant]:
    """The environments of a suite of variant aggregation by name, as SimplerEnv's scripts list them."""
    robot = {"robot": "google_robot_static", "sim_freq": 513, "control_freq": 3}
    table = "google_pick_coke_can_1_v4"
    found: Dict[str, Variant] = {}
    starts: Dict[str, Any]
    rooms: Dict[str, Tuple[str, Dict[str, Any]]] = {
        "bg_1": (f"{table}_alt_background", {}),
        "bg_2": (f"{table}_alt_background_2", {}),
        "light_dark": (table, {"slightly_darker_lighting": True}),
        "light_bright": (table, {"slightly_brighter_lighting": True}),
        "table_tex_1": ("Baked_sc1_staging_objaverse_cabinet1_h870", {}),
        "table_tex_2": ("Baked_sc1_staging_objaverse_cabinet2_h870", {}),
    }
    cameras = {"camera_1": "AltGoogleCamera", "camera_2": "AltGoogleCamera2"}
    flat = "frl_apartment_stage_simple"
    flats: Dict[str, Tuple[str, Dict[str, Any]]] = {
        "base": (flat, {}),
        "bg_bedroom": ("modern_bedroom_no_roof", {}),
        "bg_office": ("modern_office_no_roof", {}),
        "light_bright": (flat, {"light_mode": "brighter"}),
        "light_dark": (flat, {"light_mode": "darker"}),
        "cabinet_2": (flat, {"station_name": "mk_station2"}),
        "cabinet_3": (flat, {"station_name": "mk_station3"}),
    }
    traced = {"shader_dir": "rt", **robot}
    if suite == "pick_coke_can_va":
        starts = {"robot_x": (0.35, 0.35, 1), "robot_y": (0.2, 0.2, 1), "x": (-0.35, -0.12, 5), "y": (-0.02, 0.42, 5)}
        can = "GraspSingleOpenedCokeCan{}InScene-v0"
        for pose, key in (("horizontal", "lr_switch"), ("vertical", "laid_vertically"), ("standing", "upright")):
            own = {key: True, **robot}
            found[f"{pose}_base"] = Variant(can.format(""), table, own, starts)
            for name, (scene, more) in rooms.items():
                found[f"{pose}_{name}"] = Variant(can.format(""), scene, {**own, **more}, starts)
            found[f"{pose}_distractor_default"] = Variant(can.format("Distractor"), table, own, starts)
            more = {"distractor_config": "more"}
            found[f"{pose}_distractor_more"] = Variant(can.format("Distractor"), table, {**own, **more}, starts)
            for name, camera in cameras.items():
                found[f"{pose}_{name}"] = Variant(can.format(camera), table, own, starts)
    elif suite == "move_near_va":
        turn = (0.0, 0.0, -0.04498, 0.99899)
        starts = {"robot_x": (0.35, 0.35, 1), "robot_y": (0.21, 0.21, 1), "turn": turn, "episodes": 60}
        near = "MoveNearGoogleInScene-v0"
        for name, (scene, more) in {
            "base": (table, {}),
            "no_distractor": (table, {"no_distractor": True}),
            **rooms,
        }.items():
            found[name] = Variant(near, scene, {**robot, **more}, starts)
        for name, camera in cameras.items():
            found[name] = Variant(f"MoveNear{camera}InScene-v0", table, robot, starts)
    elif suite == "drawer_va":
        starts = {"robot_x": (0.65, 0.85, 3), "robot_y": (-0.2, 0.2, 3), "x": (0.0, 0.0, 1), "y": (0.0, 0.0, 1)}
        for verb, drawer in itertools.product(("open", "close"), ("top", "middle", "bottom")):
            env = f"{verb.title()}{drawer.title()}DrawerCustomInScene-v0"
            for name, (scene, more) in flats.items():
                found[f"{verb}_{drawer}_{name}"] = Variant(env, scene, {**traced, **more}, starts)
    else:
        starts = {"robot_x": (0.65, 0.65, 1), "robot_y": (-0.2, 0.2, 3), "x": (-0.08, -0.02, 3), "y": (-0.02, 0.08, 3)}
        for name, (scene, more) in flats.items():
            arguments = {**traced, "model_ids": "apple", **more}
            found[name] = Variant("PlaceIntoClosedTopDrawerCustomInScene-v0", scene, arguments, starts)
    return found


def grid(starts: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The options of reset, one an episode: every place of the robot, and for each all of the object's."""
    turn = np.array(starts.get("turn", (0.0, 0.0, 0.0, 1.0)))
    robots = itertools.product(np.linspace(*starts["robot_x"]), np.linspace(*starts["robot_y"]))
    if "episodes" in starts:
        objects: List[Dict[str, Any]] = [{"episode_id": i} for i in range(starts["episodes"])]
    else:
        places = itertools.product(np.linspace(*starts["x"]), np.linspace(*starts["y"]))
        objects = [{"init_xy": np.array(place)} for place in places]
    return [
        {"robot_init_options": {"init_xy": np.array(robot), "init_rot_quat": turn}, "obj_init_options": thing}
        for robot, thing in itertools.product(robots, objects)
    ]


def in_frame(base: "np.ndarray[Any, Any]", pose: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """A pose (7,) of position and quaternion (w, x, y, z) as seen from another."""
    back = base[3:] / np.linalg.norm(base[3:]) * [1, -1, -1, -1]
    place = _product(_product(back, np.array([0.0, *(pose[:3] - base[:3])])), back * [1, -1, -1, -1])[1:]
    turn = _product(back, pose[3:] / np.linalg.norm(pose[3:]))
    # Of the two that are the same turn: w positive, or where it is small, the largest of the others.
    leading = 0 if 4 * turn[0] ** 2 > 1 else 1 + int(np.argmax(np.abs(turn[1:])))
    return np.concatenate([place, turn if turn[leading] > 0 else -turn])


def _product(a: "np.ndarray[Any, Any]", b: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Hamilton's, of (w, x, y, z)."""
    return np.concatenate([[a[0] * b[0] - a[1:] @ b[1:]], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])])
