"""Meta-World's own experts: the positive control of every task."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import Spec


class Scripted(Policy):
    """Acts as `metaworld.policies.ENV_POLICY_MAP` has it for the episode's task, from the 39 numbers of its state.

    Actions (4,) in [-1, 1], to which the simulator would clip them; one a look. Raises ConfigurationError for a task
    that has no expert.
    """

    action_spec = {
        "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
        "gripper": Spec("gripper", 1, "continuous_close_positive", (-1.0, 1.0)),
    }
    observation_spec = {"state": Spec("state", 39, "metaworld_obs39")}

    def __init__(self, *, checkpoint: str | None) -> None:
        super().__init__(checkpoint=checkpoint)
        self._experts: dict[str, Any] = {}

    def load(self) -> None:
        """Import the experts. Raises ConfigurationError where Meta-World is not installed."""
        # MuJoCo loads a GL library as it is imported, which a node without a camera to render need not have.
        os.environ.setdefault("MUJOCO_GL", "disabled")
        try:
            from metaworld.policies import ENV_POLICY_MAP
        except ImportError as error:
            raise ConfigurationError(f"model=scripted needs Meta-World: {error}") from error
        self._experts = {name: expert() for name, expert in ENV_POLICY_MAP.items()}
        warnings.filterwarnings("ignore", message="Constant")  # the experts', of actions beyond [-1, 1]

    def reset(self, session: Session) -> None:
        name = session.task.get("name", "")
        if name not in self._experts:
            raise unknown("Meta-World task", str(name), self._experts)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        # A copy: some experts write into the state that they are given.
        return [
            np.clip(self._experts[session.task["name"]].get_action(np.array(seen["states"])), -1, 1)
            for seen, session in zip(observations, sessions, strict=True)
        ]
