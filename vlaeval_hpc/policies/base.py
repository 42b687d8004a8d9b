"""What a policy is to the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.wire.specs import Specs

Observation = dict[str, Any]  # `images` {camera: HWC uint8}, `states`, `task_description`; arrays are read-only


@dataclass
class Session:
    """One connection's episode: what a policy may know beyond the observation.

    `seed` is the episode's own, the same wherever and whenever it runs. `step` counts the actions taken (in real-time
    mode the hold action too). `memory` is the policy's to fill (an observation history, a noise state); it is empty
    again at each episode's start.
    """

    id: str
    task: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    step: int = 0
    memory: dict[str, Any] = field(default_factory=dict)


class Policy(ABC):
    """Turns observations into actions, for many sessions at once.

    The constructor is cheap: it checks its parameters and reads what the specs need, so that a login node can ask.
    `load` brings in the weights. All calls come from one thread. An answer must not depend on what else is in the
    batch, or outcomes depend on the load; a policy whose kernels cannot promise that says so in its documentation.
    """

    action_spec: Specs
    """Components of the action vector, in order."""

    observation_spec: Specs
    """What the policy looks at; nothing else is rendered or sent."""

    connection: frozenset[str] = frozenset()
    """Parameters that only say where another server listens, and how long it is waited for: they decide no answer."""

    def __init__(self, *, checkpoint: str | int | None) -> None:
        self.checkpoint = checkpoint

    def files(self) -> list[Path]:
        """The checkpoint's files, for its hash in provenance.json."""
        return []

    def load(self) -> None:
        """Make ready to predict."""

    def reset(self, session: Session) -> None:
        """A new episode begins in this session."""

    @abstractmethod
    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        """One action chunk (k, dim), or one action (dim,), for each observation, in order."""
