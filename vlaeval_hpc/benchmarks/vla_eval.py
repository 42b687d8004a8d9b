"""Any benchmark class of vla-eval's, in its own environment or image, behind our worker (PyPI `vla-eval` 0.8)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import inspect
import json
import os
import random
import sys
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Metric, Observation, Task
from vlaeval_hpc.benchmarks.libero import prepare_import
from vlaeval_hpc.benchmarks.start import start_seed
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.wire.specs import Spec, Specs

RENDER = ("gpu", "cpu")
WRIST, STATE = "send_wrist_image", "send_state"
_STATES = ("states", "state")  # what its classes call the state in an observation
_MOST_STEPS = 300  # what it takes where a class names none


class _Where(NamedTuple):
    variant: str
    number: int


class VLAEval(Benchmark):
    """The class that `benchmark` names, module:Class, made with the parameters that are not named here.

    `variants` are further parameters by name, for several evaluations of one class as one: their tasks are called
    variant/task. `render` is vla-eval's: gpu or cpu; null: gpu where there is one. Its wrist camera and state are asked
    for where the policy looks at them; whatever else a class puts into an observation goes to the policy as it is.

    An episode begins in an object of its own, with numpy's and Python's generators seeded by (seed, task, episode), so
    that what ran before does not count: vla-eval runs all in one object. `reuse` does as vla-eval, for classes that
    take long to be made and whose reset leaves nothing of the episode before.
    """

    episodes_per_task = 1

    def __init__(
        self,
        *,
        seed: int,
        benchmark: Optional[str] = None,
        variants: Optional[Mapping[str, Mapping[str, Any]]] = None,
        render: Optional[str] = None,
        reuse: bool = False,
        **params: Any,
    ) -> None:
        super().__init__(seed=seed)
        if not benchmark:
            raise ConfigurationError(
                "benchmark.params.benchmark: none is named: valid: module:Class of vla-eval's, as "
                "vla_eval.benchmarks.calvin.benchmark:CALVINBenchmark, or benchmark.params.config=FILE, a YAML of its"
            )
        prepare_import()
        self._class = _imported(benchmark)
        self._reuse = reuse
        self._accepts = _parameters(self._class)
        self._render = _renderer(self._class, benchmark, render)
        self._bound = self._render is None
        self._params: Dict[str, Dict[str, Any]] = {
            name: {**params, **more} for name, more in (variants or {"": {}}).items()
        }
        if "seed" in self._accepts:
            for own in self._params.values():
                own.setdefault("seed", seed)
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._made: Any = None
        self._made_for = ""
        self._listed: Dict[str, _Where] = {}
        self._limit = 0
        self._steps = 0
        self._done = False

        try:
            self._describe()
        except (ImportError, NotImplementedError) as error:
            raise ConfigurationError(f"{benchmark} cannot describe itself to {sys.executable}: {error}") from error

    def select(self, names: Iterable[str]) -> None:
        """What the policy looks at; an object made for something else is released."""
        before = self.selected
        super().select(names)
        if self.selected != before:
            self.close()

    def tasks(self) -> List[Task]:
        """The class's tasks, variant by variant, and what of them is JSON. A name that comes again is numbered."""
        with contextlib.suppress(Exception):  # tasks are listed on a login node too, where nothing can be drawn
            self._bind()
        listed: List[Task] = []
        self._listed = {}
        for variant in self._params:
            for index, task in enumerate(self._tasks_of(self._make(variant, wrist=True, state=True))):
                plain = {key: value for key, value in task.items() if _is_json(value)}
                name = str(task.get("name", index))
                name = f"{variant}/{name}" if variant else name
                if name in self._listed:
                    name = f"{name} [{index}]"
                self._listed[name] = _Where(variant, index)
                listed.append({**plain, **({"suite": variant} if variant else {}), "name": name})
        return listed

    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode. Raises ConfigurationError where the class gives up and wants its process to end."""
        try:
            self._reset(task, episode)
        except SystemExit as error:
            raise ConfigurationError(
                f"{self._class.__name__} gave up ({error}), and said why in this process's log; where it wants a"
                " licence agreed to: '+benchmark.licenses={NAME: URL}' accept_license=true"
            ) from error

    def _reset(self, task: Mapping[str, Any], episode: int) -> None:
        self._bind()
        if not self._listed:
            self.tasks()
        where = self._listed[task["name"]]
        if not self._reuse or self._made_for != where.variant:
            self.close()
        start = start_seed(self.seed, task["name"], episode, bits=32)
        random.seed(start)
        np.random.seed(start)
        if self._made is None:
            wrist, state = bool(self._wrist & self.selected), "state" in self.selected
            self._made = self._make(where.variant, wrist=wrist, state=state)
            self._made_for = where.variant
            # A class makes itself ready where it lists its tasks: reset needs it.
            self._held = self._tasks_of(self._made)
        self._limit, self._steps, self._done = self._limits[where.variant], 0, False
        self._run(self._made.start_episode({**self._held[where.number], "episode_idx": episode}))

    def observe(self) -> Observation:
        """What was selected, and whatever else the class gives beside images, state and text."""
        found: Dict[str, Any] = dict(self._run(self._made.get_observation()))
        images = found.pop("images", {})
        state = next((found.pop(key) for key in _STATES if key in found), None)
        words = found.pop("task_description", None)
        seen: Observation = found
        if self.cameras:  # of images that a class does not declare, all
            seen["images"] = {k: v for k, v in images.items() if k in self.cameras or k not in self.observation_spec}
        if "state" in self.selected and state is not None:
            seen["states"] = state if isinstance(state, dict) else np.asarray(state)
        if "language" in self.selected and words is not None:
            seen["task_description"] = words
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action; True where the class says that it is over, or the variant's own step limit is reached."""
        if not self._done:
            self._run(self._made.apply_action({"actions": action}))
            self._steps += 1
            self._done = bool(self._run(self._made.is_done())) or self._steps >= self._limit
            # Its CALVIN would say so in the next observation, which comes too late for the rest of a chunk.
            self.restarted = not self._done and bool(getattr(self._made, "_subtask_just_reset", False))
        return self._done

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """As the class has it (`get_hold_action`). Raises ConfigurationError where it has none."""
        try:
            found = self._made.get_hold_action(None if last is None else {"actions": last})
        except (AttributeError, NotImplementedError) as error:
            raise ConfigurationError(f"mode=realtime: {self._class.__name__} has no hold action: {error}") from error
        return np.asarray(found["actions"], dtype=np.float64)

    def result(self) -> Dict[str, Metric]:
        """The class's own metrics, those that it says how to aggregate."""
        found = self._run(self._made.get_result())
        return {key: found[key] for key in self.metrics if key in found}

    def close(self) -> None:
        """Release the simulator."""
        made, self._made, self._made_for = self._made, None, ""
        if made is not None:
            made.cleanup()
            gc.collect()  # what it held of a renderer goes now, not while the next one draws

    def _describe(self) -> None:
        made = {name: self._make(name, wrist=True, state=True) for name in self._params}
        first = next(iter(made.values()))
        about = [one.get_metadata() for one in made.values()]
        self.metrics = dict(first.get_metric_keys())  # type: ignore[misc]  # each class has its own
        self._limits = {name: int(one.get("max_steps") or _MOST_STEPS) for name, one in zip(made, about)}
        self.max_steps = max(self._limits.values())
        bounds = [one["max_episodes_per_task"] for one in about if one.get("max_episodes_per_task")]
        self.max_episodes = min(bounds) if bounds else None
        self.action_spec = _specs(first, "get_action_spec")
        # Some give a state that they do not declare.
        self.observation_spec = {**_specs(first, "get_observation_spec")}
        self.observation_spec.setdefault("state", Spec("state", 0, "raw"))
        plain = _specs(self._make(next(iter(made)), wrist=False, state=True), "get_observation_spec")
        self._wrist = set(self.observation_spec) - {*plain, "state"}

    def _bind(self) -> None:
        """Set the process up for the renderer: once, since it is bound where the simulator is first imported."""
        if not self._bound:
            self._class.configure_render(self._render)
            self._bound = True

    def _make(self, variant: str, *, wrist: bool, state: bool) -> Any:
        wanted = {
            **({WRIST: wrist} if WRIST in self._accepts else {}),
            **({STATE: state} if STATE in self._accepts else {}),
        }
        try:
            return self._class(**{**wanted, **self._params[variant]})
        except Exception as error:
            raise ConfigurationError(
                f"benchmark.params: {self._class.__name__} cannot be made of them: {type(error).__name__}: {error}"
            ) from error

    def _tasks_of(self, made: Any) -> List[Dict[str, Any]]:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found: List[Dict[str, Any]] = list(made.get_tasks())
        except Exception as error:
            raise ConfigurationError(
                f"{self._class.__name__} cannot list its tasks for {sys.executable}: {type(error).__name__}: {error}"
            ) from error
        return found

    def _run(self, call: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(call)


def _imported(benchmark: str) -> Any:
    module, _, name = benchmark.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"benchmark.params.benchmark: '{benchmark}' cannot be imported by {sys.executable}: {error}: valid: "
            "module:Class of vla-eval's, where vla-eval==0.8.0 is installed"
        ) from error


def _parameters(kind: Any) -> Set[str]:
    """Names that the class's constructor takes, and its parents' as far as it hands further ones on."""
    names: Set[str] = set()
    for parent in kind.__mro__:
        if "__init__" not in vars(parent) or parent is object:
            continue
        found = inspect.signature(parent.__init__).parameters.values()
        names |= {p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if all(p.kind is not p.VAR_KEYWORD for p in found):
            break
    return names - {"self"}


def _renderer(kind: Any, benchmark: str, render: Optional[str]) -> Optional[str]:
    """What the class is to draw with; None where it leaves no choice."""
    if not hasattr(kind, "configure_render"):  # vla-eval before 0.7
        return None
    can = [mode for mode in RENDER if mode in kind.render_backends]
    if render is None:
        here = "gpu" if os.path.exists("/dev/nvidiactl") else "cpu"
        return here if here in can else can[0]
    if render not in can:
        raise ConfigurationError(f"benchmark.params.render={render}: valid for {benchmark}: {', '.join(can)}")
    return render


def _specs(made: Any, method: str) -> Specs:
    try:
        found = getattr(made, method)()
    except (AttributeError, NotImplementedError):  # a class need not declare any
        return {}
    return {key: Spec.from_dict(spec.to_dict()) for key, spec in found.items()}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
