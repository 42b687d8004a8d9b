"""What a set of episodes amounts to: vla-eval's aggregates, and beside them what tells how far to trust them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlaeval_hpc.results.statistics.intervals import Interval, student, wilson
from vlaeval_hpc.run.journal import Episode
from vlaeval_hpc.run.result import task_row


def task_summary(task: str, episodes: list[Episode], metric_keys: Mapping[str, str]) -> dict[str, Any]:
    """A task's entry of a merged file: vla-eval's row, and `trust`.

    The aggregates are taken over `episodes` in the order given, the entry lists them by episode_id.
    """
    row = task_row(task, episodes, metric_keys)
    del row["episodes"]
    return {"task": task, **trust(episodes, metric_keys), **row, "episodes": sorted(episodes, key=_number)}


def total_summary(episodes: list[Episode], metric_keys: Mapping[str, str]) -> dict[str, Any]:
    """The same over all tasks, without the episodes."""
    row = task_row("", episodes, metric_keys)
    del row["task"], row["episodes"]
    return {**trust(episodes, metric_keys), **row}


def _number(episode: Episode) -> int:
    number: int = episode["episode_id"]
    return number


def trust(episodes: Sequence[Episode], metric_keys: Mapping[str, str]) -> dict[str, Any]:
    """Errors apart, and for each metric that is a mean its interval and its value over the completed episodes.

    Keys: num_errors, num_completed (episodes without failure_reason), failure_reasons {reason: count}; mean_KEY_n
    (episodes that have the metric), mean_KEY_interval ([low, high], 95 %), mean_KEY_completed, and its _n and
    _interval. What cannot be told is absent.
    """
    completed = [e for e in episodes if not e.get("failure_reason")]
    reasons = Counter(str(e["failure_reason"]) for e in episodes if e.get("failure_reason"))
    found: dict[str, Any] = {
        "num_errors": len(episodes) - len(completed),
        "num_completed": len(completed),
        "failure_reasons": dict(sorted(reasons.items())),
    }
    for key, how in metric_keys.items():
        if how == "mean":
            mean = _mean(key, episodes)
            among_completed = _mean(key, completed) if len(completed) < len(episodes) else mean
            found.update({f"mean_{key}{part}": value for part, value in mean.items()})
            found.update({f"mean_{key}_completed{part}": value for part, value in among_completed.items()})
    return found


def _mean(key: str, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Mean, `_n` and `_interval` of a metric over the episodes that have it."""
    values = [v for v in [e["metrics"].get(key) for e in episodes] if isinstance(v, (int, float))]
    if not values:
        return {}
    found: dict[str, Any] = {"": round(sum(values) / len(values), 4), "_n": len(values)}
    interval = _interval(key, values)
    if interval is not None:
        # Finer than the mean, which vla-eval rounds: whoever shows a digit less must not round twice.
        found["_interval"] = [round(interval.low, 6), round(interval.high, 6)]
    return found


def _interval(key: str, values: Sequence[float]) -> Interval | None:
    return wilson(int(sum(values)), len(values)) if is_rate(key, values) else student(values)


def is_rate(key: str, values: Iterable[float]) -> bool:
    """Whether a metric's values are successes or none; a graded metric that happens to be 0 or 1 so far is no rate."""
    return set(values) <= {0, 1} if key == "success" else set(map(type, values)) == {bool}
