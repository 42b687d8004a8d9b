"""A shard's result file, ours or vla-eval 0.2's, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.files import check_schema, read_json

ShardResult = dict[str, Any]
"""benchmark, tasks: [{task, episodes: [{episode_id, metrics, ...}]}], shard: {id, total}, metric_keys?, run?, ..."""


def read_shard_file(path: Path) -> ShardResult:
    """The content of one file. Raises ConfigurationError, naming the file, where it is no whole shard result."""
    try:
        data = read_json(path)
    except RecursionError:
        raise ConfigurationError(f"{path}: not readable as JSON: nested too deeply") from None
    flaw = _flaw(data)
    if flaw:
        raise ConfigurationError(f"{path}: not a shard result: {flaw}")
    if "schema" in data:  # vla-eval writes none
        check_schema(path, data["schema"])
    result: ShardResult = data
    return result


def _flaw(data: Any) -> str:
    if not isinstance(data, dict):
        return "no JSON object"
    shard = data.get("shard")
    if not isinstance(shard, dict):
        return "no 'shard'"
    number, total = shard.get("id"), shard.get("total")
    if not _count(number) or not _count(total) or number >= total:
        return f"shard {number!r} of {total!r}"
    return content_flaw(data)


def content_flaw(data: Mapping[str, Any]) -> str:
    """What a shard's file and a merged one must have, and this one has not: benchmark, tasks, episodes; or nothing."""
    if not isinstance(data.get("benchmark"), str):
        return "no 'benchmark'"
    metric_keys = data.get("metric_keys", {})
    if not isinstance(metric_keys, dict) or not all(isinstance(how, str) for how in metric_keys.values()):
        return "'metric_keys' does not map names to aggregates"
    if not isinstance(data.get("config", {}), dict):
        return "'config' is no object"
    tasks = data.get("tasks")
    if not isinstance(tasks, list):
        return "no 'tasks'"
    for task in tasks:
        if not isinstance(task, dict) or not isinstance(task.get("task"), str):
            return "a task without a name"
        episodes = task.get("episodes")
        if not isinstance(episodes, list) or not all(map(_is_episode, episodes)):
            return f"task {task['task']}: episodes without episode_id, metrics or steps that are numbers"
    return ""


def _is_episode(episode: Any) -> bool:
    return (
        isinstance(episode, dict)
        and _count(episode.get("episode_id"))
        and isinstance(episode.get("metrics"), dict)
        and isinstance(episode.get("steps", 0), (int, float))
    )


def _count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
