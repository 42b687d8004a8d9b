"""pi0, pi0-FAST and pi0.5 in this process, by openpi (github.com/Physical-Intelligence/openpi)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies import outside
from vlaeval_hpc.policies.base import Observation, Session
from vlaeval_hpc.policies.noise import seed_of
from vlaeval_hpc.policies.openpi import ToldAsOpenpi

FAST = "pi0_fast"  # openpi's ModelType of the one that decodes tokens, and starts from no noise


class Pi0(ToldAsOpenpi):
    """A checkpoint as openpi trained it, under the training config `config`: pi05_libero, pi0_libero, pi0_fast_libero.

    `checkpoint` is a folder, or a gs:// address that openpi fetches itself, into OPENPI_DATA_HOME. The rest:
    ToldAsOpenpi. One observation after the other, as openpi's Policy takes them; each episode's noise is its own.

    Raises ConfigurationError where openpi is missing, or has no such config.
    """

    def __init__(self, *, checkpoint: str | None, config: str, **told: Any) -> None:
        super().__init__(checkpoint=checkpoint, **told)
        self._where = checkpoint or ""
        self._folder = None if self._where.startswith("gs://") else Path(self._where).expanduser()
        if not checkpoint or (self._folder and not self._folder.is_dir()):
            raise ConfigurationError(
                f"model.checkpoint={checkpoint}: valid: a folder, gs://..., hf://ORG/NAME@REVISION"
            )
        self._config = config
        self._policy: Any = None
        self._noise: tuple[int, int] | None = None

    def files(self) -> list[Path]:
        return sorted(p for p in self._folder.rglob("*") if p.is_file()) if self._folder else []

    def load(self) -> None:
        """Load with openpi."""
        try:
            from openpi.policies import policy_config
            from openpi.training import config as training
        except ImportError as error:
            raise ConfigurationError(f"model=pi0 needs openpi: {error}") from error
        try:
            found = training.get_config(self._config)
        except ValueError as error:  # it tells the nearest
            raise ConfigurationError(f"model.params.config={self._config}: {error}") from error
        self._policy = policy_config.create_trained_policy(found, self._where)
        if found.model.model_type.value != FAST:
            self._noise = (found.model.action_horizon, found.model.action_dim)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [self._one(seen, session) for seen, session in zip(observations, sessions, strict=True)]

    def _one(self, seen: Observation, session: Session) -> NDArray[np.floating[Any]]:
        noise = None
        if self._noise:
            noise = np.random.default_rng(seed_of(session)).standard_normal(self._noise).astype(np.float32)
        return outside.actions(self._policy.infer(self._told(seen), noise=noise)["actions"], self._dim)
