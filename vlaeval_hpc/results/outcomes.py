"""What runs are compared by: their episodes, and what must be the same for these to pair."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.results.aggregate import is_rate
from vlaeval_hpc.results.merge import Merged, some
from vlaeval_hpc.results.rundir import current_merge
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.journal import Episode
from vlaeval_hpc.run.plan import Plan

Key = tuple[str, int]
"""(task, episode)."""

OF_THE_POLICY = frozenset(("policy_error", "bad_action"))
"""Failures that are the policy's outcome: they count, where those of a node or a simulator are left out."""

UNTOLD = frozenset(("max_steps", "environment.requirements"))
"""What a file may leave out, and so differs only where both tell."""


@dataclass(frozen=True)
class Outcomes:
    """A run's episodes, and `identity`: what decides them beside the policy, by dotted name.

    `root` is the run directory, None for a file by itself.
    """

    name: str
    identity: dict[str, Any]
    tasks: frozenset[str]
    episodes: dict[Key, Episode]
    root: Path | None = None

    def video(self, key: Key) -> str | None:
        """An episode's video, where one was recorded and still is there."""
        named = self.episodes[key].get("video")
        path = self.root / str(named) if self.root and named else None
        return str(path) if path and path.is_file() else None


@dataclass(frozen=True)
class Values:
    """A metric of a run's episodes that can be compared; `left_out`: why how many others cannot."""

    found: dict[Key, float]
    left_out: dict[str, int]
    failed: int  # of those left out, the ones with a failure_reason
    counted: dict[str, int]  # failures that are among `found`


def run_outcomes(name: str, run: RunDirectory, merged: Merged | None = None) -> Outcomes:
    """What a run tells, finished or not. Raises ConfigurationError where there is no plan that can be read."""
    found = outcomes(name, current_merge(run) if merged is None else merged)
    # Null in a config is not the number.
    max_steps = Plan.load(run.plan).benchmark.get("max_steps") or found.identity["max_steps"]
    return replace(found, identity={**found.identity, "max_steps": max_steps}, root=run.root)


def outcomes(name: str, merged: Merged) -> Outcomes:
    """What a merged result tells by itself."""
    config = merged.get("config", {})
    params = config.get("params") or {}
    environment = config.get("environment") or {}
    identity = {
        "benchmark": merged["benchmark"],
        "mode": merged.get("mode"),
        "seed": merged.get("seed"),
        "target": config.get("target", config.get("benchmark")),
        "max_steps": config.get("max_steps"),
        # An image made from our definition holds these too; its name alone does not tell what is in it.
        "environment.requirements": environment.get("requirements") or None,
        **{f"params.{key}": value for key, value in params.items()},
    }
    episodes = {(task["task"], e["episode_id"]): e for task in merged["tasks"] for e in task["episodes"]}
    tasks = {task["task"] for task in merged["tasks"]} | set(merged.get("coverage", {}).get("tasks_missing", []))
    return Outcomes(name, identity, frozenset(tasks), episodes)


def check_pairing(runs: Sequence[Outcomes]) -> None:
    """Raises ConfigurationError, naming what differs, unless the episodes of all runs are the same ones."""
    first = runs[0]
    for run in runs[1:]:
        lines = [
            f"{key} is {run.identity.get(key)!r}, not {first.identity.get(key)!r}"
            for key in {**first.identity, **run.identity}
            if run.identity.get(key) != first.identity.get(key)
            and not (key in UNTOLD and None in (run.identity[key], first.identity[key]))
        ]
        for mine, theirs in ((run, first), (first, run)):
            if only := sorted(mine.tasks - theirs.tasks):
                lines.append(f"tasks only in {mine.name}: {some(only)}")
        lines += _reseeded(run, first)
        if lines:
            raise ConfigurationError(f"{run.name} does not pair with {first.name}: {'; '.join(lines[:5])}")


def _reseeded(run: Outcomes, first: Outcomes) -> list[str]:
    for key, episode in run.episodes.items():
        mine, theirs = episode.get("seed"), first.episodes.get(key, {}).get("seed")
        if mine != theirs and mine is not None and theirs is not None:
            return [f"{key[0]} episode {key[1]} has seed {mine}, not {theirs}"]
    return []


def values(run: Outcomes, metric: str, every: Iterable[Key]) -> Values:
    """The metric of the episodes that count; of `every` episode that some run has, those not here are `not there`."""
    found: dict[Key, float] = {}
    left_out: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    failed = 0
    for key in every:
        episode = run.episodes.get(key)
        if episode is None:
            left_out["not there"] += 1
            continue
        reason = str(episode.get("failure_reason") or "")
        value = episode["metrics"].get(metric)
        if reason and reason not in OF_THE_POLICY:
            left_out[reason] += 1
            failed += 1
        elif not isinstance(value, (int, float)) or not math.isfinite(value):
            left_out[f"no {metric}"] += 1
        else:
            found[key] = float(value)
            if reason:
                counted[reason] += 1
    return Values(found, dict(sorted(left_out.items())), failed, dict(sorted(counted.items())))


def check_metric(runs: Sequence[Outcomes], metric: str) -> bool:
    """Whether the metric is a rate (aggregate.is_rate); raises ConfigurationError where no run has it."""
    seen = [v for run in runs for e in run.episodes.values() if isinstance(v := e["metrics"].get(metric), (int, float))]
    if not seen:
        raise unknown("metric", metric, {key for run in runs for e in run.episodes.values() for key in e["metrics"]})
    return is_rate(metric, seen)
