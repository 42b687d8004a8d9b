"""One episode, from reset to result."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import Any, Callable, Dict, Optional, Union

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Observation
from vlaeval_hpc.errors import EpisodeError
from vlaeval_hpc.run.plan import Item
from vlaeval_hpc.wire.specs import action_dim
from vlaeval_hpc.worker.blame import Blame
from vlaeval_hpc.worker.client import Client
from vlaeval_hpc.worker.realtime import MEASURED, Ask, Drive, Mode
from vlaeval_hpc.worker.recording import Recorder, Take, outcome_of


def run_episode(
    benchmark: Benchmark,
    task: Dict[str, Any],
    item: Item,
    client: Client,
    max_steps: int,
    alive: Callable[[str], None],
    recorder: Optional[Recorder] = None,
    mode: Optional[Mode] = None,
) -> Dict[str, Any]:
    """Run one episode: {metrics, steps, elapsed_sec}, with failure_reason and failure_detail where it broke off,
    what the recorder tells of its files, and rt_metrics (Drive.report) where a `mode` says how time passes.

    Raises ServerLost where it must be done again: then nothing of it counts.
    """
    take = recorder.watch(benchmark, task, item) if recorder else Take(benchmark, item)
    try:
        result = _play(benchmark, take, task, item, client, max_steps, alive, mode)
    except BaseException:
        take.drop()
        raise
    if client.connected:
        client.end(result)
    return {**result, **take.keep(outcome_of(result))}


def _play(
    benchmark: Benchmark,
    take: Take,
    task: Dict[str, Any],
    item: Item,
    client: Client,
    max_steps: int,
    alive: Callable[[str], None],
    mode: Optional[Mode],
) -> Dict[str, Any]:
    begin = time.monotonic()
    failure: Optional[EpisodeError] = None
    metrics: Dict[str, Any] = {}

    def ask(observation: Observation) -> "np.ndarray[Any, Any]":
        return _checked(client.act(observation), action_dim(benchmark.action_spec))

    loop: Union[Turns, Drive] = Turns(take, ask, alive) if mode is None else Drive(mode, benchmark, take, ask, alive)
    try:
        alive("reset")
        with Blame("simulator_start"):
            benchmark.reset(task, item.episode)
        scalars = {k: v for k, v in task.items() if isinstance(v, (str, int, float, bool, list))}
        about = {**scalars, "episode_idx": item.episode, "seed": episode_seed(item)}
        start = partial(client.start, about) if mode is None else partial(client.start, about, "live")
        start()
        loop.run(max_steps, start)
        with Blame("simulator_step"):
            metrics = {k: _plain(v) for k, v in benchmark.result().items()}
    except EpisodeError as error:
        failure = error
        metrics = {"success": False}
    seconds = round(time.monotonic() - begin, 3)
    result: Dict[str, Any] = {"metrics": metrics, "steps": loop.steps, "elapsed_sec": seconds}
    if isinstance(loop, Drive):
        result["rt_metrics"] = loop.report()
        if failure is None:  # what broke off was not measured to its end
            metrics.update({k: result["rt_metrics"][k] for k in MEASURED})
    if failure is not None:
        result["failure_reason"] = failure.reason
        result["failure_detail"] = failure.detail
    return result


class Turns:
    """The simulator and the policy in turn: each waits for the other."""

    def __init__(self, take: Take, ask: Ask, alive: Callable[[str], None]) -> None:
        self._take = take
        self._ask = ask
        self._alive = alive
        self.steps = 0

    def run(self, max_steps: int, restart: Callable[[], None]) -> None:
        """Until the episode is over, as Drive.run."""
        done = False
        while not done and self.steps < max_steps:
            self._alive("observe")
            with Blame("simulator_step"):
                observation = self._take.observe()
            actions = self._ask(observation)[: max_steps - self.steps]
            for i, action in enumerate(actions):
                self._alive("step")
                # Nothing is rendered but where the policy will look: after the last action of its chunk.
                look = i + 1 == len(actions) and self.steps + 1 < max_steps
                with Blame("simulator_step"):
                    done = self._take.step(action, look)
                self.steps += 1
                if done:
                    break
                if self._take.restarted:  # what is left of the chunk was meant for the instruction before
                    restart()
                    break


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


def _plain(value: Any) -> Any:
    """A metric as JSON carries it."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
