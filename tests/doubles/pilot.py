"""A policy for the toy benchmark: it knows the way, and fails on demand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Policy
from vlaeval_hpc.wire.specs import Spec

from .toy import ACTION, STATE


class Pilot(Policy):
    """Steers to the origin, `chunk` steps at a time. `fault`: load, nan, raise:<task>, short."""

    action_spec = ACTION
    observation_spec = {"state": STATE}

    def __init__(self, *, checkpoint, chunk=1, fault="", latency=0.0, dim=2):
        super().__init__(checkpoint=checkpoint)
        if checkpoint is not None and not Path(checkpoint).exists():
            raise ConfigurationError(f"model.checkpoint: {checkpoint}: no such file")
        self._chunk = chunk
        self._fault = fault
        self._latency = latency
        if dim != 2:
            self.action_spec = {"push": Spec("push", dim, "toy_push")}

    def files(self):
        return [Path(self.checkpoint)] if self.checkpoint else []

    def load(self):
        if self._fault == "load":
            raise RuntimeError("no such weights")

    def predict(self, observations, sessions):
        time.sleep(self._latency)
        return [self._one(o, s) for o, s in zip(observations, sessions)]

    def _one(self, observation, session):
        if self._fault == "nan":
            return np.full((1, 2), np.nan)
        if self._fault == f"raise:{session.task.get('name')}":
            raise RuntimeError("the pilot is lost")
        point = np.asarray(observation["states"])[:2]
        wobble = np.random.default_rng([session.seed, session.step]).uniform(-2.0, 2.0, 2)
        direction = -point / max(float(np.linalg.norm(point)), 1e-9) + wobble
        return np.tile(direction, (self._chunk, 1))
