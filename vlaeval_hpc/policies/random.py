"""Actions that ignore what is seen: the negative control, and a load for any benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec


class Random(Policy):
    """Uniform actions in [-1, 1], drawn from the episode's seed and step alone.

    `dim` is the length of an action, `chunk` the actions in an answer. `observe` names what it pretends to look at, so
    that it costs what a real policy costs: camera names, state, language.
    """

    def __init__(self, *, checkpoint: str | None, dim: int, chunk: int = 1, observe: list[str] | None = None) -> None:
        super().__init__(checkpoint=checkpoint)
        if dim < 1 or chunk < 1:
            raise ConfigurationError(f"model.params: dim={dim}, chunk={chunk}: valid: 1 and more")
        self._shape = (chunk, dim)
        self.action_spec = {}  # whatever the convention, a random number is as good as another
        self.observation_spec = {name: _spec(name) for name in observe or ["language"]}

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [
            np.random.default_rng([s.seed, s.step]).uniform(-1.0, 1.0, self._shape).astype(np.float32) for s in sessions
        ]


def _spec(name: str) -> Spec:
    if name == "language":
        return LANGUAGE
    # A format that every producer fits: what is not looked at cannot be of the wrong kind.
    return Spec("state", 0, "any") if name == "state" else RGB
