"""What a session has been predicted and has not been told yet."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown

Actions = NDArray[np.floating[Any]]
ENSEMBLES = ("newest", "average", "ema")


class ActionQueue:
    """The actions to come in one episode, blended from the chunks that cover each step.

    newest: a chunk is carried out to its end, then the policy looks again. average and ema: the policy looks at every
    step; what several chunks say of a step is averaged with equal weights, or as alpha * newer + (1 - alpha) * older
    (temporal ensembling, Zhao et al. 2023, https://arxiv.org/abs/2304.13705).
    """

    def __init__(self, ensemble: str = "newest", ema_alpha: float = 0.5) -> None:
        if ensemble not in ENSEMBLES:
            raise unknown("model.action_ensemble", ensemble, ENSEMBLES)
        if not 0 < ema_alpha <= 1:
            raise ConfigurationError(f"model.ema_alpha: {ema_alpha}: valid: above 0, up to 1")
        self._ensemble = ensemble
        self._alpha = ema_alpha
        self._actions: deque[Actions] = deque()
        self._counts: deque[int] = deque()

    @property
    def looks_always(self) -> bool:
        """Whether every step needs a new observation."""
        return self._ensemble != "newest"

    @property
    def wants_look(self) -> bool:
        """Whether the next action needs a new observation."""
        return self.looks_always or not self._actions

    def push(self, chunk: Actions) -> None:
        """Add a chunk (k, dim) predicted for the step that comes next."""
        if self._ensemble == "newest":
            self._actions.clear()
            self._counts.clear()
        for i, new in enumerate(chunk):
            if i == len(self._actions):
                self._actions.append(new)
                self._counts.append(1)
                continue
            weight = self._alpha if self._ensemble == "ema" else 1.0 / (self._counts[i] + 1)
            self._actions[i] = weight * new + (1 - weight) * self._actions[i]
            self._counts[i] += 1

    def pop(self) -> Actions:
        """The next action (dim,)."""
        self._counts.popleft()
        return self._actions.popleft()

    def take(self) -> Actions:
        """All actions to come (k, dim)."""
        actions = np.array(tuple(self._actions))
        self.clear()
        return actions

    def clear(self) -> None:
        """A new episode begins."""
        self._actions.clear()
        self._counts.clear()
