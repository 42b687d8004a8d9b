"""A policy that waves LIBERO's arm and never wins, ours, and vla-eval's: `python perf/wave.py PORT CHUNK LOG`.

Its answers follow from task, episode and step alone. Of every observation that it is asked about, one line of JSON in
LOG: when, task, episode, step, and a digest of what was seen; of vla-eval's episodes' ends: when, task, episode, null,
[success, steps].
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CAMERAS = ("agentview", "wrist")


class Waver:
    """Answers and log."""

    def __init__(self, log: str, chunk: int) -> None:
        self._log = open(log, "a", buffering=1)
        self._chunk = chunk

    def answer(self, task: Mapping[str, Any], step: int, seen: Mapping[str, Any]) -> Any:
        """Actions (chunk, 7) float32, slow and upwards, the gripper open."""
        digest = hashlib.sha256(np.ascontiguousarray(seen["states"], np.float64).tobytes())
        for camera in CAMERAS:
            digest.update(np.ascontiguousarray(seen["images"][camera]).tobytes())
        self.note(task, step, digest.hexdigest()[:16])
        turns = (step + np.arange(self._chunk))[:, None] / (13 + np.arange(6)) + task["episode_idx"]
        waves = 0.3 * np.sin(turns) + np.array([0, 0, 0.1, 0, 0, 0])
        return np.hstack([waves, np.full((self._chunk, 1), -1.0)]).astype(np.float32)

    def note(self, task: Mapping[str, Any], step: int | None, what: object) -> None:
        """A line of the log."""
        self._log.write(json.dumps([time.time(), task["task_id"], task["episode_idx"], step, what]) + "\n")


def serve(port: int, chunk: int, log: str) -> None:
    """vla-eval's server, as it ships, with the chunks buffered on its side."""
    from vla_eval.model_servers.predict import PredictModelServer
    from vla_eval.model_servers.serve import serve as serve_peer

    waver = Waver(log, chunk)
    tasks: dict[str, Any] = {}

    class Wave(PredictModelServer):
        def predict(self, obs: Any, ctx: Any) -> Any:
            actions = waver.answer(tasks[ctx.session_id], ctx.step, obs)
            return {"actions": actions if chunk > 1 else actions[0]}

        async def on_episode_start(self, config: Any, ctx: Any) -> None:
            tasks[ctx.session_id] = config["task"]
            await super().on_episode_start(config, ctx)

        async def on_episode_end(self, result: Any, ctx: Any) -> None:
            waver.note(tasks[ctx.session_id], None, [bool(result["metrics"]["success"]), result["steps"]])
            await super().on_episode_end(result, ctx)

    serve_peer(Wave(chunk_size=chunk if chunk > 1 else None), "127.0.0.1", port)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
else:
    from vlaeval_hpc.policies.base import Observation, Policy, Session
    from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

    class Wave(Policy):
        """Ours."""

        action_spec = {"action": Spec("action", 7, "any")}
        observation_spec = {"agentview": RGB, "wrist": RGB, "state": Spec("state", 8, "any"), "language": LANGUAGE}

        def __init__(self, *, checkpoint: str | None, chunk: int, log: str) -> None:
            super().__init__(checkpoint=checkpoint)
            self._chunk = chunk
            self._log = log

        def load(self) -> None:
            self._waver = Waver(self._log, self._chunk)

        def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Any]:
            return [self._waver.answer(s.task, s.step, o) for o, s in zip(observations, sessions, strict=True)]
