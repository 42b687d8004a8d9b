"""Kinetix: contraptions in 2D physics, in JAX (arXiv:2410.23208; PyPI `kinetix-env` 3.0)."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.benchmarks.hold import repeat
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec, Specs

ACTION: Specs = {"action": Spec("action", 6, "kinetix_motors4_thrusters2", (-1.0, 1.0))}

RTC12: Dict[str, str] = {
    "Grasp Easy": "grasp_easy",
    "Catapult": "catapult",
    "Cartpole Thrust": "cartpole_thrust",
    "Hard Lunar Lander": "hard_lunar_lander",
    "Half Cheetah": "mjc_half_cheetah",
    "Swimmer": "mjc_swimmer",
    "Walker": "mjc_walker",
    "Unicycle": "h17_unicycle",
    "Chain Lander": "chain_lander",
    "Catcher": "catcher_v3",
    "Trampoline": "trampoline",
    "Car Launch": "car_launch",
}
"""The tasks of real-time chunking (arXiv:2506.07339): names and level files."""

SUITES = {"s": 140, "m": 247, "l": 679, "rtc12": 679}
"""Kinetix' own levels by size, and RTC12; and how long their symbolic observation is."""


class Kinetix(Benchmark):
    """Kinetix as the real-time chunking paper evaluates it: 256 steps at most, won where green touches blue.

    An episode starts as the level's file says; only the noise on actions is drawn, by `seed` + episode: `action_noise`
    is its standard deviation, 0.1 in that paper. State: the flat symbolic observation, float32. Camera `viewport`:
    (125, 125, 3) uint8. Action: (6,) in [-1, 1], four motors and two thrusters. Levels of `worlds`, a folder with the
    paper's own (l/*.json of its repository's worlds/), go before Kinetix': four of rtc12 are there only.

    An episode is, bit for bit, that of vla-eval 0.8 (tests/benchmarks/test_kinetix.py), but for its success: there any
    positive reward is one, and the levels reward each step that brings green nearer to blue. The physics is compiled
    once a size of level, for seconds: JAX_COMPILATION_CACHE_DIR keeps what was.
    """

    max_steps = 256
    episodes_per_task = 100
    action_spec = ACTION

    def __init__(self, *, seed: int, suite: str = "l", action_noise: float = 0.0, worlds: Optional[str] = None) -> None:
        super().__init__(seed=seed)
        if suite not in SUITES:
            raise unknown("Kinetix suite", suite, SUITES)
        self.suite = suite
        self.action_noise = action_noise
        self.worlds = worlds
        state = Spec("state", SUITES[suite], "kinetix_symbolic_flat")
        self.observation_spec = {"viewport": RGB, "state": state, "language": LANGUAGE}
        self._level = ""
        self._start: Any = None
        self._engines: Dict[Any, Tuple[Any, Any, Any]] = {}
        self._engine: Tuple[Any, Any, Any] = (None, None, None)
        self._limits: Any = None
        self._state: Any = None
        self._noise: Any = None
        self._words = ""
        self._success = False
        self._done = False

    def tasks(self) -> List[Task]:
        """The suite's levels: `name`, and `level`, the file without .json."""
        package = importlib.util.find_spec("kinetix")
        if package is None or package.origin is None:
            raise ConfigurationError(f"Kinetix is not installed for {sys.executable}: install kinetix-env==3.0.2")
        own = os.path.join(os.path.dirname(package.origin), "levels")
        if self.suite != "rtc12":
            names = sorted(name[: -len(".json")] for name in os.listdir(os.path.join(own, self.suite)))
            return [{"name": name, "level": self._file(own, self.suite, name)} for name in names]
        listed = [{"name": name, "level": self._file(own, "l", file)} for name, file in RTC12.items()]
        missing = [task["name"] for task in listed if not os.path.isfile(task["level"] + ".json")]
        if missing:
            raise ConfigurationError(
                f"Kinetix has no level for {', '.join(missing)}: benchmark.params.worlds=FOLDER with the files of "
                "real-time chunking's repository (worlds/l/*.json), or benchmark.params.suite=l"
            )
        return listed

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode."""
        jax = self._jax()
        if task["level"] != self._level:
            self._open(task["level"])
        # As vla-eval draws: the first half of the key was the reset's, which draws nothing.
        self._noise = jax.random.split(jax.random.PRNGKey(self.seed + episode))[0]
        self._state = self._start
        self._words = task["name"]
        self._success = self._done = False

    def observe(self) -> Observation:
        """What was selected: `images` {viewport: (125, 125, 3) uint8}, `states` (n,) float32, `task_description`."""
        _, symbols, pixels = self._engine
        seen: Observation = {}
        if self.cameras:
            frame = np.asarray(pixels(self._state).image)
            seen["images"] = {"viewport": (np.clip(frame, 0.0, 1.0) * 255).astype(np.uint8)}
        if "state" in self.selected:
            seen["states"] = np.array(symbols(self._state), dtype=np.float32)
        if "language" in self.selected:
            seen["task_description"] = self._words
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action (6,); True once the level is over. Nothing is drawn here, with or without `look`."""
        if self._done:
            return True
        jax = self._jax()
        advance = self._engine[0]
        applied = jax.numpy.asarray(np.asarray(action, dtype=np.float32))
        self._noise, drawn = jax.random.split(self._noise)
        if self.action_noise > 0:
            noise, drawn = jax.random.split(drawn)
            applied = applied + jax.random.normal(noise, applied.shape) * self.action_noise
        self._state, goal, done = advance(drawn, self._state, applied, self._limits)
        self._success = self._success or bool(goal)
        self._done = bool(done)
        return self._done

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """The last action again, as vla-eval has it; zeros before the first."""
        return repeat(self.action_spec, last)

    def result(self) -> Dict[str, Metric]:
        """`success`: the level's goal was reached."""
        return {"success": self._success}

    def close(self) -> None:
        """Let the level go; what was compiled stays."""
        self._level = ""
        self._state = self._start = None

    def _file(self, own: str, size: str, name: str) -> str:
        for folder in ([self.worlds] if self.worlds else []) + [own]:
            path = os.path.abspath(os.path.join(folder, size, name))
            if os.path.isfile(path + ".json"):
                break
        return path

    def _jax(self) -> Any:
        if not os.path.exists("/dev/nvidiactl"):
            os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax

        return jax

    def _open(self, level: str) -> None:
        jax = self._jax()
        from kinetix.environment import env as kinetix_env
        from kinetix.environment.spaces import ActionType, ObservationType
        from kinetix.util.saving import load_from_json_file

        start, static, limits = load_from_json_file(level + ".json")
        self._limits = limits.replace(max_timesteps=self.max_steps)
        # Plain arrays: as read they are "weakly typed", and the step would be compiled again for its own output.
        self._start = jax.tree.map(lambda leaf: jax.numpy.asarray(np.asarray(leaf)), start)
        size = (static, repr(limits))
        if size not in self._engines:
            made = [
                kinetix_env.make_kinetix_env(ActionType.CONTINUOUS, kind, None, self._limits, static, auto_reset=False)
                for kind in (ObservationType.SYMBOLIC_FLAT, ObservationType.PIXELS)
            ]

            def advance(key: Any, state: Any, action: Any, limits: Any) -> Any:
                _, state, _, done, info = made[0].step_env(key, state, action, limits)
                plain = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, np.dtype(leaf.dtype)), state)
                return plain, info["GoalR"], done

            self._engines[size] = (jax.jit(advance), jax.jit(made[0].get_obs), jax.jit(made[1].get_obs))
        self._engine = self._engines[size]
        # Compiled here and now: where the clock does not wait, the first step must not take seconds.
        nothing = jax.numpy.zeros(self.action_spec["action"].dims, dtype=np.float32)
        self._engine[0](jax.random.PRNGKey(0), self._start, nothing, self._limits)
        self._level = level
