"""Real-time chunking on Kinetix (arXiv:2506.07339): flow policies that finish what they have begun."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.mixer import SCHEDULES, FlowMixer, prefix_weights
from vlaeval_hpc.wire.specs import Spec

Actions = NDArray[np.floating[Any]]

METHODS = ("rtc", "naive")
PREFIX = "worlds_l_"  # how the published policies' names begin, before the level's


class RTC(Policy):
    """A folder with a policy for each level, <level>.pkl or worlds_l_<level>.pkl.

    `checkpoint` is that folder, or one of train_flow.py's, of which the last epoch's policies are taken. `method` rtc:
    in mode=realtime a new chunk is guided by what is left of the one before: the actions that are carried out before it
    comes are held fast, the others the less the later they are (`schedule`: exp, linear, ones, zeros). naive: each
    chunk from noise alone, as everywhere in mode=sync. `latency`: seconds that every answer takes in addition.

    Chunks are (k, 6) float32. Noise is drawn from the episode's seed and step; observations of a batch are answered
    one by one. Raises ConfigurationError for a folder without policies; ValueError for a level without one.
    """

    action_spec = {"action": Spec("action", 6, "kinetix_motors4_thrusters2", (-1.0, 1.0))}
    observation_spec = {"state": Spec("state", 679, "kinetix_symbolic_flat")}

    def __init__(
        self,
        *,
        checkpoint: str | None,
        method: str = "rtc",
        schedule: str = "exp",
        max_guidance_weight: float = 5.0,
        flow_steps: int = 5,
        latency: float = 0.0,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        for key, value, valid in (("method", method, METHODS), ("schedule", schedule, SCHEDULES)):
            if value not in valid:
                raise unknown(f"model.params.{key}", value, valid)
        if flow_steps < 1 or latency < 0:
            raise ConfigurationError(
                f"model.params: flow_steps={flow_steps}, latency={latency}: valid: above 0, from 0"
            )
        self._method = method
        self._schedule = schedule
        self._most = max_guidance_weight
        self._flow_steps = flow_steps
        self._latency = latency
        self._files = _policies(Path(checkpoint or "").expanduser(), checkpoint)
        self._mixers: dict[str, FlowMixer] = {}

    def files(self) -> list[Path]:
        return sorted(self._files.values())

    def load(self) -> None:
        """Read every level's policy, and compile it.

        Raises ConfigurationError where a file is none, or does not fit Kinetix.
        """
        if not os.path.exists("/dev/nvidiactl"):
            os.environ.setdefault("JAX_PLATFORMS", "cpu")
        wanted = (self.observation_spec["state"].dims, self.action_spec["action"].dims)
        for level, path in self._files.items():
            mixer = FlowMixer.load(path)
            if (mixer.observation_dim, mixer.action_dim) != wanted:
                raise ConfigurationError(
                    f"{path}: for observations and actions of {mixer.observation_dim} and {mixer.action_dim}, "
                    f"Kinetix has {wanted[0]} and {wanted[1]}"
                )
            self._mixers[level] = mixer
            still = np.zeros((mixer.chunk, mixer.action_dim), dtype=np.float32)
            for before, weights in ((None, None), (still, still[:, 0])):  # compiled now: nobody waits later
                mixer.sample(np.zeros(wanted[0], np.float32), still, self._flow_steps, before, weights, self._most)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Actions]:
        """A chunk (k, 6) for each observation's `states` (679,); `realtime` says when it was made, and how late answers
        are."""
        time.sleep(self._latency)
        return [self._chunk(o, s) for o, s in zip(observations, sessions, strict=True)]

    def _chunk(self, seen: Observation, session: Session) -> Actions:
        level = str(session.task.get("level", session.task.get("name"))).rpartition("/")[2]
        mixer = self._mixers.get(level)
        if mixer is None:
            raise ValueError(f"no policy for level '{level}': there are {', '.join(sorted(self._mixers))}")
        told = seen.get("realtime")
        moment = session.step
        noise = np.random.default_rng([session.seed, moment]).standard_normal((mixer.chunk, mixer.action_dim))
        before, weights = self._rest(session, told, moment, mixer.chunk)
        state = np.asarray(seen["states"], dtype=np.float32).reshape(-1)
        chunk = mixer.sample(state, noise.astype(np.float32), self._flow_steps, before, weights, self._most)
        session.memory["chunk"] = (moment, chunk)
        return chunk

    def _rest(self, session: Session, told: Any, moment: int, length: int) -> tuple[Actions | None, Actions | None]:
        """What the last chunk says from now on, zeros behind its end, and how much it counts; None for not at all."""
        if self._method == "naive" or not told or "chunk" not in session.memory:
            return None, None
        made, chunk = session.memory["chunk"]
        left = length - (moment - made)
        if left <= 0:
            return None, None
        before = np.zeros_like(chunk)
        before[:left] = chunk[moment - made :]
        return before, prefix_weights(int(told["delay"]), left, length, self._schedule)


def _policies(folder: Path, checkpoint: str | None) -> dict[str, Path]:
    """The policies' files by level."""
    epochs = [p for p in folder.glob("*/policies") if p.parent.name.isdigit()] if folder.is_dir() else []
    if epochs:
        folder = max(epochs, key=lambda path: int(path.parent.name))
    found = {path.stem.removeprefix(PREFIX): path for path in sorted(folder.glob("*.pkl"))}
    if not checkpoint or not found:
        raise ConfigurationError(
            f"model.checkpoint={checkpoint}: valid: a folder with a policy for each level, {PREFIX}<level>.pkl, or "
            "train_flow.py's with <epoch>/policies"
        )
    return found
