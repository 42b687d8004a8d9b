"""A policy that tells in its actions what it was shown and with whom, and fails on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import Spec

FIELDS = ("sum", "looks", "step", "seed", "batch", "index")
"""An action: the sum of all `value`s of the episode, their number, the session's step and seed, and for a policy that
tells so the batch's size; the action's place in its chunk."""


class Parrot(Policy):
    """`gate`: load waits for this file. An observation's `fault`: raise, stop (StopIteration), memory (raise after the
    history was written), shape, or count (an answer too few). A task's `fault`: raise or stop."""

    action_spec = {"parrot": Spec("parrot", len(FIELDS), "parrot")}
    observation_spec = {"value": Spec("value", 1, "value")}

    def __init__(
        self, *, checkpoint: str | None = None, chunk: int = 1, latency: float = 0.0, gate: str = "", width: int = 1
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._chunk = chunk
        self._latency = latency
        self._gate = gate
        self._width = width
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def load(self) -> None:
        self.threads.add(threading.get_ident())
        while self._gate and not Path(self._gate).exists():
            time.sleep(0.02)

    def reset(self, session: Session) -> None:
        self.threads.add(threading.get_ident())
        assert session.memory == {}
        _fail(session.task.get("fault"))

    def predict(self, observations: Sequence[Observation], sessions: Sequence[Session]) -> list[NDArray[Any]]:
        self.threads.add(threading.get_ident())
        self.batches.append(len(observations))
        time.sleep(self._latency)
        answers = [self._one(o, s, len(observations)) for o, s in zip(observations, sessions, strict=True)]
        return answers[:-1] if any(o.get("fault") == "count" for o in observations) else answers

    def _one(self, observation: Observation, session: Session, batch: int) -> NDArray[Any]:
        fault = observation.get("fault")
        if fault == "shape":
            return np.zeros((1, 2, 3))
        if fault != "memory":
            _fail(fault)
        seen = [*session.memory.get("seen", ()), float(observation["value"])]
        session.memory["seen"] = seen
        if fault == "memory":
            _fail("raise")
        told = [sum(seen), len(seen), session.step, session.seed % 1000, batch, 0]
        chunk = np.tile(np.array(told, np.float32), (self._chunk, self._width))
        chunk[:, 5] = range(self._chunk)
        return chunk


def _fail(fault: str | None) -> None:
    if fault == "stop":
        raise StopIteration
    if fault == "raise":
        raise RuntimeError("the parrot is ill")
    if fault == "surrogate":
        raise RuntimeError("\udcff")
