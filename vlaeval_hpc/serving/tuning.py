"""How fast a policy answers, by the size of its batch: `serving tune` answers questions of launch.tuning's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.messages import Message


class Asker:
    """Answers, first {model, observation, task}: the observation lies in a file; then {batch, seconds}: how many
    sessions to ask about at a time, and for how long."""

    def __init__(self, make: Callable[[dict[str, Any]], Policy]) -> None:
        self._make = make
        self._policy: Policy | None = None
        self._seen: Observation = {}
        self._task: dict[str, Any] = {}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Of the first {load, chunk}: seconds, and the actions of an answer; of the others {answers, seconds}."""
        if "model" in question:
            began = time.perf_counter()
            self._policy = self._make(question["model"])
            self._policy.load()
            loaded = time.perf_counter() - began
            self._seen = Message.unpack(Path(question["observation"]).read_bytes()).payload
            self._task = question["task"]
            return {"load": loaded, "chunk": len(np.atleast_2d(self._ask(self._sessions(1))[0]))}
        sessions = self._sessions(int(question["batch"]))
        self._ask(sessions)  # the first of a size may compile
        began, answers = time.perf_counter(), 0
        while time.perf_counter() - began < question["seconds"]:
            answers += len(self._ask(sessions))
        return {"answers": answers, "seconds": time.perf_counter() - began}

    def _sessions(self, count: int) -> list[Session]:
        assert self._policy is not None
        sessions = [Session(f"tune {n}", task=self._task, seed=n) for n in range(count)]
        for session in sessions:
            self._policy.reset(session)
        return sessions

    def _ask(self, sessions: list[Session]) -> list[Any]:
        assert self._policy is not None
        return list(self._policy.predict([self._seen] * len(sessions), sessions))
