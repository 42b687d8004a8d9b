"""GR00T N1.6 in this process, by Isaac-GR00T (github.com/NVIDIA/Isaac-GR00T)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies import norms
from vlaeval_hpc.policies.base import Observation, Session
from vlaeval_hpc.policies.gr00t import ToldAsGr00t
from vlaeval_hpc.policies.noise import own_noise


class Gr00tLocal(ToldAsGr00t):
    """A checkpoint for the embodiment that Isaac-GR00T names `embodiment`: LIBERO_PANDA, GR1.

    The rest: ToldAsGr00t. All observations go through the model together. The noise of an episode is the same in every
    batch; what is computed holds to rounding.

    Raises ConfigurationError where Isaac-GR00T is missing, or knows no such embodiment.
    """

    def __init__(self, *, checkpoint: str | None, embodiment: str, **told: Any) -> None:
        super().__init__(checkpoint=checkpoint, **told)
        self._folder = norms.checkpoint_folder(checkpoint)
        self._embodiment = embodiment
        self._policy: Any = None

    def files(self) -> list[Path]:
        return norms.checkpoint_files(self._folder)

    def load(self) -> None:
        """Load with Isaac-GR00T, on CUDA where there is one."""
        try:
            import torch
            from gr00t.data.embodiment_tags import EmbodimentTag
            from gr00t.policy.gr00t_policy import Gr00tPolicy
        except ImportError as error:
            raise ConfigurationError(f"model=gr00t_local needs Isaac-GR00T: {error}") from error
        tag = getattr(EmbodimentTag, self._embodiment, None)
        if tag is None:
            raise unknown("model.params.embodiment", self._embodiment, [tag.name for tag in EmbodimentTag])
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        self._policy = Gr00tPolicy(embodiment_tag=tag, model_path=str(self._folder), device=device)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        with own_noise(sessions):
            given, _ = self._policy.get_action(self._told(observations))
        return self._chunks(given)
