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
        """What was selected, as of now. Only after a reset, or a step with `look`."""

    @abstractmethod
    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action, float (dim,); True where the episode is over, and at every step after. `look`: observe may
        follow."""

    @abstractmethod
    def result(self) -> Dict[str, Metric]:
        """The metrics of the episode so far."""

    def close(self) -> None:
        """Release the simulator; reset may follow."""
