"""GR00T N1.6 in this process, by Isaac-GR00T (github.com/NVIDIA/Isaac-GR00T)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies import norms, outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.noise import own_noise


class Gr00tLocal(Policy):
    """A checkpoint for the embodiment that Isaac-GR00T names `embodiment`: LIBERO_PANDA, GR1.

    `dim`, `cameras`, `state`, `action`, `prompt`, `gripper` as for GR00T's servers (policies.gr00t). All observations
    go through the model together. The noise of an episode is the same in every batch; the rest holds to rounding.

    Raises ConfigurationError where Isaac-GR00T is missing, or knows no such embodiment.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        embodiment: str,
        dim: int,
        cameras: dict[str, str],
        state: dict[str, int],
        action: list[str],
        prompt: str,
        gripper: str = "as_is",
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._folder = norms.checkpoint_folder(checkpoint)
        if not action:
            raise ConfigurationError("model.params.action: names no part of the action")
        self._embodiment = embodiment
        self._dim = dim
        self._cameras = cameras
        self._state = state
        self._action = action
        self._prompt = prompt
        self._gripper = outside.check_gripper(gripper)
        self._policy: Any = None
        self.action_spec = outside.gives(dim)
        self.observation_spec = outside.looks(cameras.values(), sum(state.values()))

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
        states = np.stack([np.asarray(seen["states"], np.float32) for seen in observations])[:, None]
        parts = np.split(states, np.cumsum(list(self._state.values()))[:-1], axis=-1)
        told = {
            "video": {
                key: np.stack([seen["images"][camera] for seen in observations])[:, None]
                for key, camera in self._cameras.items()
            },
            "state": dict(zip(self._state, parts, strict=True)),
            "language": {self._prompt: [[seen["task_description"]] for seen in observations]},
        }
        with own_noise(sessions):
            given, _ = self._policy.get_action(told)
        missing = [name for name in self._action if name not in given]
        if missing:
            raise ValueError(f"GR00T gave no '{missing[0]}' but {', '.join(given)} (model.params.action)")
        chunks = np.concatenate([given[name] for name in self._action], axis=-1)
        return [outside.actions(chunk, self._dim, self._gripper) for chunk in chunks]
