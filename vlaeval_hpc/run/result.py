"""What vla-eval 0.2 writes of episodes: task rows and aggregates, and a shard's file."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Callable, Dict, Iterable, List, Mapping, Tuple

from vlaeval_hpc import __version__
from vlaeval_hpc.run.files import SCHEMA
from vlaeval_hpc.run.journal import Episode
from vlaeval_hpc.run.plan import Plan

AGGREGATES: Dict[str, Callable[[List[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "sum": sum,
    "max": max,
    "min": min,
}

ATTEMPTS = 3
RETRIED = frozenset(("simulator_start", "simulator_step", "simulator_hang", "simulator_crash", "server_timeout"))
"""Failures that may be the node's: an episode is tried ATTEMPTS times, by whoever runs the shard again."""

_NOISE = ("schema", "run", "task", "started_at", "finished_at", "host", "shard")


def is_final(episode: Episode) -> bool:
    """Whether a record is an outcome, or a failure that another node would have had as well."""
    return episode.get("failure_reason") not in RETRIED


def may_try_again(failed: int) -> bool:
    """Whether so many failed attempts, all of which may have been the node's fault, leave another."""
    return failed < ATTEMPTS


def settle(episodes: Iterable[Episode]) -> Dict[Tuple[str, int], Episode]:
    """The standing record of each (task, episode): an outcome before a failure, one that is final before one that is
    not, else the last; `attempts` counted."""
    standing: Dict[Tuple[str, int], Episode] = {}
    for episode in episodes:
        key = (episode["task"], episode["episode_id"])
        before = standing.get(key)
        if before is None:
            standing[key] = {**episode, "attempts": 1}
            continue
        keep = before if _rank(before) > _rank(episode) else episode
        standing[key] = {**keep, "attempts": before["attempts"] + 1}
    return standing


def is_open(episode: Episode) -> bool:
    """Whether a settled record leaves the episode to be tried again."""
    return not is_final(episode) and may_try_again(episode["attempts"])


def _rank(episode: Episode) -> Tuple[bool, bool]:
    return ("failure_reason" not in episode, is_final(episode))


def aggregate(episodes: List[Episode], metric_keys: Mapping[str, str]) -> Dict[str, float]:
    """`{agg}_{key}` over the episodes that have the metric, failed ones included, rounded to 4 places."""
    found = {}
    for key, how in metric_keys.items():
        values = [e["metrics"][key] for e in episodes if isinstance(e["metrics"].get(key), (int, float))]
        if values and how in AGGREGATES:
            found[f"{how}_{key}"] = round(AGGREGATES[how](values), 4)
    return found


def task_row(task: str, episodes: List[Episode], metric_keys: Mapping[str, str]) -> Dict[str, Any]:
    """A task's entry: every episode counts, errors are counted apart."""
    errors = sum(1 for e in episodes if e.get("failure_reason"))
    steps = sum(e.get("steps", 0) for e in episodes)
    return {
        "task": task,
        "episodes": episodes,
        "num_episodes": len(episodes),
        "avg_steps": steps / max(len(episodes), 1),
        **({"num_errors": errors} if errors else {}),
        **aggregate(episodes, metric_keys),
    }


def episode_row(episode: Episode) -> Dict[str, Any]:
    """An episode's entry: the journal's line less what a task's entry says, and what differs from run to run."""
    return {k: v for k, v in episode.items() if k not in _NOISE}


def shard_result(plan: Plan, shard: int, episodes: List[Episode], server_info: Mapping[str, Any]) -> Dict[str, Any]:
    """A finished shard's file: vla-eval's keys, and run, schema and the episodes' seeds."""
    metric_keys: Dict[str, str] = plan.benchmark["metrics"]
    by_task: Dict[str, List[Dict[str, Any]]] = {}
    for episode in episodes:
        by_task.setdefault(episode["task"], []).append(episode_row(episode))
    rows = [task_row(task, found, metric_keys) for task, found in by_task.items()]
    return {
        "benchmark": plan.name,
        "mode": plan.mode.get("name", "sync"),
        "harness_version": __version__ + "+vlaeval.hpc",
        "created_at": datetime.now(timezone.utc).isoformat(),
        "tasks": rows,
        "config": plan.config,
        "seed": plan.benchmark["seed"],
        "metric_keys": metric_keys,
        **aggregate([e for row in rows for e in row["episodes"]], metric_keys),
        "server_info": dict(server_info),
        "shard": {"id": shard, "total": plan.shards},
        "schema": SCHEMA,
        "run": plan.run,
    }
