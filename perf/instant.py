"""A policy that answers at once, as `perf.ends` has it for vla-eval's server."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec


class Instant(Policy):
    """Zeros, one action a look; looks at two cameras and a state."""

    action_spec = {"action": Spec("action", 7, "any")}
    observation_spec = {"agentview": RGB, "wrist": RGB, "state": Spec("state", 8, "any"), "language": LANGUAGE}

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.float32]]:
        return [np.zeros(7, np.float32) for _ in observations]
