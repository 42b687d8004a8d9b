"""What a benchmark is to the worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Dict, FrozenSet, Iterable, List, Mapping, Optional, Union

import numpy as np

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.wire.specs import Specs

Task = Dict[str, Any]  # `name`, unique in the benchmark, and further scalars (suite, task_id, ...)
Observation = Dict[str, Any]  # `images` {camera: HWC uint8}, `states` (n,), `task_description`: what was selected
Metric = Union[bool, int, float]


class Benchmark(ABC):
    """One simulator at a time, reset to an episode that depends on (task, episode, seed) alone.

    The constructor is cheap: no simulator is imported before `tasks`. A subclass takes its parameters by keyword
    and hands `seed` on. Everything here is called from one thread.
    """

    metrics: ClassVar[Dict[str, str]] = {"success": "mean"}
    """What `result` gives, and how it aggregates: mean, sum, max or min."""

    max_steps: int
    """Steps after which the worker ends an episode."""

    episodes_per_task: int
    """Episodes a task of the published protocol."""

    max_episodes: Optional[int] = None
    """How many episodes a task has; None where they do not run out."""

    action_spec: Specs
    """Components of the action vector, in order."""

    observation_spec: Specs
    """Everything that `observe` can give."""

    restarted: bool = False
    """Whether the last step began a new instruction: the policy starts anew, and observe may follow, `look` or not."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self.selected: FrozenSet[str] = frozenset()

    def select(self, names: Iterable[str]) -> None:
        """What the policy looks at, of `observation_spec`, called before the first reset; nothing else is rendered.

        Raises ConfigurationError for a name that the benchmark does not have.
        """
        wanted = frozenset(names)
        missing = sorted(wanted - set(self.observation_spec))
        if missing:
            raise ConfigurationError(
                f"{type(self).__name__} gives no '{missing[0]}': valid: {', '.join(self.observation_spec)}"
            )
        self.selected = wanted

    @property
    def cameras(self) -> List[str]:
        """The selected names that are images, in the spec's order."""
        return [k for k, spec in self.observation_spec.items() if k in self.selected and "rgb" in spec.format]

    @abstractmethod
    def tasks(self) -> List[Task]:
        """Every task, in the published order. Raises ConfigurationError for parameters that name none."""

    @abstractmethod
    def reset(self, task: Mapping[str, Any], episode: int) -> None:
        """Begin the episode, ready to be observed. Any exception is the simulator's failure to start."""

    @abstractmethod
    def observe(self) -> Observation:
        """What was selected, as of now. After a step without `look` only where no camera is selected."""

    @abstractmethod
    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action, float (dim,); True where the episode is over, and at every step after. `look`: observe may
        follow."""

    def glance(self, names: Iterable[str]) -> Observation:
        """`observe`, but of these names only, which were selected or need no simulator of their own."""
        selected, self.selected = self.selected, frozenset(names)
        try:
            return self.observe()
        finally:
            self.selected = selected

    def state(self) -> "Optional[np.ndarray[Any, Any]]":
        """The state as of now, (n,), with nothing rendered; None where there is none that is a vector.

        After a step without `look` too.
        """
        if "state" not in self.observation_spec:
            return None
        found = self.glance(("state",)).get("states")
        return None if found is None or isinstance(found, dict) else np.array(found).reshape(-1)

    def hold(self, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
        """The action (dim,) that stays where it is, for mode=realtime where no action is there; `last` is the policy's
        latest, None before the first.

        Raises ConfigurationError where the benchmark does not say: only it knows what its actions mean.
        """
        raise ConfigurationError(f"mode=realtime: {type(self).__name__} has no hold action (Benchmark.hold)")

    @abstractmethod
    def result(self) -> Dict[str, Metric]:
        """The metrics of the episode so far."""

    def close(self) -> None:
        """Release the simulator; reset may follow."""
