"""One episode, from reset to result."""

from __future__ import annotations

import hashlib
import time
import traceback
from typing import Any, Callable, Dict, Optional

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.errors import ConfigurationError, EpisodeError
from vlaeval_hpc.run.plan import Item
from vlaeval_hpc.wire.specs import action_dim
from vlaeval_hpc.worker.client import Client


def run_episode(
    benchmark: Benchmark,
    task: Dict[str, Any],
    item: Item,
    client: Client,
    max_steps: int,
    alive: Callable[[str], None],
) -> Dict[str, Any]:
    """Run one episode: {metrics, steps, elapsed_sec}, with failure_reason and failure_detail where it broke off.

    Raises ServerLost where it must be done again: then nothing of it counts.
    """
    begin = time.monotonic()
    steps = 0
    failure: Optional[EpisodeError] = None
    metrics: Dict[str, Any] = {}
    try:
        alive("reset")
        with _blame("simulator_start"):
            benchmark.reset(task, item.episode)
        scalars = {k: v for k, v in task.items() if isinstance(v, (str, int, float, bool, list))}
        about = {**scalars, "episode_idx": item.episode, "seed": episode_seed(item)}
        client.start(about)
        done = False
        while not done and steps < max_steps:
            alive("observe")
            with _blame("simulator_step"):
                observation = benchmark.observe()
            actions = _checked(client.act(observation), action_dim(benchmark.action_spec))[: max_steps - steps]
            for i, action in enumerate(actions):
                alive("step")
                # Nothing is rendered but where the policy will look: after the last action of its chunk.
                look = i + 1 == len(actions) and steps + 1 < max_steps
                with _blame("simulator_step"):
                    done = benchmark.step(action, look)
                steps += 1
                if done:
                    break
                if benchmark.restarted:  # what is left of the chunk was meant for the instruction before
                    client.start(about)
                    break
        with _blame("simulator_step"):
            metrics = {k: _plain(v) for k, v in benchmark.result().items()}
    except EpisodeError as error:
        failure = error
        metrics = {"success": False}
    result: Dict[str, Any] = {"metrics": metrics, "steps": steps, "elapsed_sec": round(time.monotonic() - begin, 3)}
    if failure is not None:
        result["failure_reason"] = failure.reason
        result["failure_detail"] = failure.detail
    if client.connected:
        client.end(result)
    return result


def episode_seed(item: Item) -> int:
    """The seed that a policy's own randomness starts from: the same wherever the episode runs."""
    digest = hashlib.sha256(f"{item.seed}:{item.task}:{item.episode}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _checked(actions: "np.ndarray[Any, Any]", dim: int) -> "np.ndarray[Any, Any]":
    if dim and actions.shape[1] != dim:
        raise EpisodeError("bad_action", f"the policy gave {actions.shape[1]} dimensions, the benchmark takes {dim}")
    if not actions.shape[0] or not np.isfinite(actions).all():
        raise EpisodeError("bad_action", "the policy gave NaN or infinity, or no action at all")
    return actions


class _blame:
    """Whatever a simulator raises inside is the episode's failure, under `reason`."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, (EpisodeError, ConfigurationError)):
            detail = "".join(traceback.format_exception(kind, error, error.__traceback__))
            raise EpisodeError(self._reason, detail[-4000:]) from error


def _plain(value: Any) -> Any:
    """A metric as JSON carries it."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
