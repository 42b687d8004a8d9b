"""Runs, tasks and episodes as rows of a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vlaeval_hpc.results.browser.lines import Column, Row
from vlaeval_hpc.results.index import Entry

RUNS = (
    Column("state", 7),
    Column("run", 0),
    Column("mean [95 %]", 17, right=True),
    Column("episodes", 8, right=True),
    Column("age", 4, right=True),
    Column("owner", 6),
)
TASKS = (
    Column("task", 0),
    Column("episodes", 8, right=True),
    Column("mean [95 %]", 19, right=True),
    Column("errors", 6, right=True),
)
EPISODES = (
    Column("episode", 7, right=True),
    Column("outcome", 8),
    Column("steps", 6, right=True),
    Column("seconds", 8, right=True),
    Column("failure", 0),
)
STYLES = {"running": "green", "stalled": "red", "waiting": "yellow"}

ORDERS: Mapping[str, Callable[[Entry], Any]] = {
    "age": lambda entry: -entry.changed_at,
    "name": lambda entry: entry.path,
    "mean": lambda entry: (entry.mean is None, -(entry.mean or 0.0), entry.path),
    "state": lambda entry: (list(STYLES).index(entry.state) if entry.state in STYLES else 9, -entry.changed_at),
    "owner": lambda entry: (entry.owner, -entry.changed_at),
}


def chosen(entries: Iterable[Entry], words: str, order: str) -> list[Entry]:
    """Entries whose name, state, model, checkpoint, benchmark or owner have all the words in them, in order."""
    wanted = words.lower().split()
    found = [entry for entry in entries if not wanted or all(word in _searched(entry) for word in wanted)]
    return sorted(found, key=ORDERS[order])


def run_row(entry: Entry, now: float) -> Row:
    """A run in one line."""
    share = f"{entry.finished}" if entry.finished == entry.planned else f"{entry.finished}/{entry.planned}"
    interval = None if entry.low is None or entry.high is None else (entry.low, entry.high)
    mean = told(entry.mean, interval, entry.rate)
    cells = (entry.state, entry.path, mean, share, age(now - entry.changed_at), entry.owner)
    return Row(entry.path, cells, STYLES.get(entry.state, ""))


def sweep_row(path: str, sweep: Mapping[str, Any] | None, now: float, changed_at: float, owner: str) -> Row:
    """A sweep in one line: its best point, and how many of its points are done."""
    points = sweep["points"] if sweep else []
    best = max((p for p in points if p["rate"] is not None), key=lambda p: p["rate"], default=None)
    mean = ""
    if best and sweep:
        interval = None if best["low"] is None else (best["low"], best["high"])
        mean = told(best["rate"], interval, sweep["metric"] == "success")
    done = sum(point["state"] in ("done", "stopped") for point in points)
    return Row(path, ("sweep", path, mean, f"{done}/{len(points)} pts", age(now - changed_at), owner), "cyan")


def task_row(task: Mapping[str, Any], metric: str | None) -> Row:
    """A task of a merged result in one line."""
    mean = told(task.get(f"mean_{metric}"), task.get(f"mean_{metric}_interval"), metric == "success")
    style = "red" if task["num_errors"] else ""
    return Row(task["task"], (task["task"], str(task["num_episodes"]), mean, str(task["num_errors"] or "")), style)


def episode_row(episode: Mapping[str, Any]) -> Row:
    """An episode in one line."""
    success, reason = episode["metrics"].get("success"), episode.get("failure_reason")
    outcome = "error" if reason else "" if success is None else "success" if success else "failure"
    seconds = episode.get("elapsed_sec")
    cells = (
        str(episode["episode_id"]),
        outcome,
        str(episode.get("steps", "")),
        f"{seconds:.1f}" if isinstance(seconds, (int, float)) else "",
        reason or ", ".join(f"{k} {v:.4g}" for k, v in episode["metrics"].items() if k != "success" and _number(v)),
    )
    return Row(str(episode["episode_id"]), cells, "red" if reason else "dim" if outcome == "failure" else "")


def told(mean: float | None, interval: Sequence[float] | None, rate: bool) -> str:
    """`76.7 [59.1, 88.2]`: points of a rate, else the metric's own units."""
    if mean is None:
        return ""
    number = _points if rate else "{:.3g}".format
    return number(mean) + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")


def age(seconds: float) -> str:
    """`40s`, `12m`, `3h`, `5d`, in four cells."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{min(int(seconds // size), 999)}{unit}"
    return f"{max(int(seconds), 0)}s"


def _searched(entry: Entry) -> str:
    parts = (entry.path, entry.state, entry.model, entry.checkpoint, entry.benchmark, entry.owner)
    return " ".join(part for part in parts if part).lower()


def _points(share: float) -> str:
    return f"{100 * share:.1f}" if share < 1 else "100"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))
