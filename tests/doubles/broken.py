"""The toy and the pilot with one promise broken, to see that a check tells."""

from __future__ import annotations

import os

import numpy as np

from .pilot import Pilot
from .toy import Toy


class BrokenToy(Toy):
    """`promise`: determinism, reset, lazy, blind, frames, states, names, metrics, end, state, hold."""

    def __init__(self, *, promise="", **given):
        super().__init__(**given)
        self._promise = promise
        self._before = 0

    def reset(self, task, episode):
        super().reset(task, episode)
        if self._promise == "determinism":
            self._point += int.from_bytes(os.urandom(1), "big") / 1e4
        if self._promise == "reset":
            self._point += self._before / 100
        if self._promise == "blind" and "front" not in self.selected:
            self._point += 0.1
        if self._promise == "end":
            self._point /= 1000
        self._before += 1
        self._frame = 0

    def step(self, action, look=True):
        ended = self._promise == "end" and self._steps
        done = super().step(action, look)
        if look or self._promise != "lazy":
            self._frame += 1
        return done and not ended

    def observe(self):
        seen = super().observe()
        if self._promise == "names":
            return {"task_description": self._name, "states": seen.get("states", np.zeros(3))}
        if "images" in seen:
            still = 0 if self._promise == "frames" else self._frame
            seen["images"] = {"front": np.full((8, 8, 3), still, np.uint8)}
        if self._promise == "states" and "states" in seen:
            seen["states"] = seen["states"][:2]
        return seen

    def state(self):
        return super().state() if self._promise != "state" else self._point * 2

    def hold(self, last):
        return np.zeros(2 if self._promise != "hold" else 3)

    def result(self):
        return {"success": False} if self._promise == "metrics" else super().result()


class BrokenPilot(Pilot):
    """`promise`: determinism, sessions, batching, shape."""

    def __init__(self, *, promise="", **given):
        super().__init__(**given)
        self._promise = promise
        self._asked = int.from_bytes(os.urandom(2), "big") if promise == "determinism" else 0

    def predict(self, observations, sessions):
        chunks = super().predict(observations, sessions)
        if self._promise == "sessions":
            self._asked += 1
        if self._promise == "batching":
            chunks = [c * len(chunks) for c in chunks]
        if self._promise == "shape":
            chunks = [c[:, :1] for c in chunks]
        return [c + self._asked for c in chunks]
