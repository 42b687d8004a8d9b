"""What lies under a results root: its runs and sweeps, looked at again only where something has changed."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.results.episodetable import subject
from vlaeval_hpc.results.memory import uncollected
from vlaeval_hpc.results.merge import read_merged
from vlaeval_hpc.results.rundir import is_open_run
from vlaeval_hpc.results.statistics.intervals import wilson
from vlaeval_hpc.results.status import STATES, read_status
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import read_json, write_json

VERSION = 2  # of the cached index; another one is made anew
DEPTH = 5  # folders below the root that may hold runs
HEAD = 1 << 16  # bytes in which a file's head is looked for

Signature = list[int]
"""Times of what a run's files say, in nanoseconds; the same signature, the same run."""


class Entry(NamedTuple):
    """A run. `path` is relative to the root; `mean` of `metric` over n episodes with its 95 % interval, None where
    nothing is told; times in seconds since the epoch. state: one of status.STATES."""

    path: str
    signature: Signature
    state: str
    model: str | None
    checkpoint: str | None
    benchmark: str
    planned: int
    finished: int
    errors: int
    metric: str | None
    n: int
    mean: float | None
    low: float | None
    high: float | None
    owner: str
    created_at: float | None
    changed_at: float
    merged: bool

    @property
    def rate(self) -> bool:
        """Whether the mean is a share of successes."""
        return self.metric == "success"


@dataclass
class Index:
    """Runs and sweep folders by path, in order; `problems` names folders that could not be read."""

    root: Path
    runs: list[Entry]
    sweeps: list[str]
    problems: list[str] = field(default_factory=list)

    def run(self, entry: Entry) -> RunDirectory:
        """The directory of an entry."""
        return RunDirectory(self.root / entry.path)


@uncollected()
def known_index(root: Path, cache: Path) -> Index | None:
    """What was found last time, without a look at the root; None where nothing is kept."""
    try:
        kept = read_json(cache / "index.json")
        if kept["version"] != VERSION or kept["root"] != str(root.resolve()):
            return None
        return Index(root, list(map(Entry._make, kept["runs"])), kept["sweeps"], kept["problems"])
    except (ConfigurationError, KeyError, TypeError):
        return None


def read_index(root: Path, cache: Path, progress: Callable[[int], None] | None = None) -> Index:
    """Look at the root, and keep what is found in the folder `cache`; `progress` is told how many runs are read.

    Links are not followed: a sweep's links lead to runs that are found where they lie. Raises ConfigurationError
    where the root is no folder.
    """
    if not root.is_dir():
        raise ConfigurationError(f"{root}: no such folder")
    known = known_index(root, cache)
    index = Index(root, [], [])
    before = {entry.path: entry for entry in known.runs} if known else {}
    above = os.path.join(root, "")
    read = 0
    for path, is_run in _folders(root):
        name = path[len(above) :] or "."
        if not is_run:
            index.sweeps.append(name)
            continue
        try:
            entry = before.get(name)
            if entry is None or entry.state == "running" or entry.signature != _signature(path, entry.state == "done"):
                entry = _entry(name, path)
                read += 1
                if progress:
                    progress(read)
            index.runs.append(entry)
        except (ConfigurationError, OSError, KeyError, TypeError) as error:
            index.problems.append(str(error) if isinstance(error, ConfigurationError) else f"{path}: {error!r}")
    index.runs.sort(key=lambda entry: entry.path)
    index.sweeps.sort()
    if known is None or (index.runs, index.sweeps) != (known.runs, known.sweeps):
        _keep(index, cache)
    return index


def _keep(index: Index, cache: Path) -> None:
    content = {"version": VERSION, "root": str(index.root.resolve()), "sweeps": index.sweeps}
    with suppress(OSError, InfrastructureError):  # a full home makes the next look slow, no more
        cache.mkdir(parents=True, exist_ok=True)
        # An entry is a list of values: ten thousand of them are read before the first screen.
        write_json(cache / "index.json", {**content, "problems": index.problems, "runs": index.runs}, indent=None)


def _folders(root: Path) -> Iterator[tuple[str, bool]]:
    """Every run (True) and sweep folder (False) at the root or below; nothing is looked for inside a run."""
    open_folders = [(str(root), 0)]
    while open_folders:
        folder, depth = open_folders.pop()
        if os.path.exists(os.path.join(folder, "plan.json")):
            yield folder, True
            continue
        if os.path.exists(os.path.join(folder, "points.json")):
            yield folder, False
        with suppress(OSError), os.scandir(folder) as entries:
            inside = [e.path for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
            if depth < DEPTH:
                open_folders += [(path, depth + 1) for path in inside]


def _signature(path: str, done: bool) -> Signature:
    """A finished run changes with its folders; what is open also with the files that shards append to."""
    shards = os.path.join(path, "shards")
    times = [os.stat(path).st_mtime_ns]
    try:
        times.append(os.stat(shards).st_mtime_ns)
        if not done:
            with os.scandir(shards) as entries:
                times.append(max((entry.stat().st_mtime_ns for entry in entries), default=0))
    except FileNotFoundError:
        times.append(0)
    return times


def _entry(name: str, path: str) -> Entry:
    run = RunDirectory(path)
    plan = read_head(run.plan, "items")
    signature = _signature(path, done=False)  # before the reading: what comes meanwhile is seen the next time
    metric = headline(plan["benchmark"]["metrics"])
    told = _merged(run, metric) or _counted(run)
    whose = subject(name, plan)
    return Entry(
        path=name,
        signature=signature[:2] if told["state"] == "done" else signature,
        model=whose.model,
        checkpoint=whose.checkpoint,
        benchmark=whose.benchmark,
        metric=metric,
        owner=user_name(os.stat(path).st_uid),
        created_at=_created(run),
        changed_at=max(signature) / 1e9,
        **told,
    )


def headline(metrics: Mapping[str, str]) -> str | None:
    """The metric to show where there is room for one: success, else the first that is a mean."""
    return next((key for key in sorted(metrics, key="success".__ne__) if metrics[key] == "mean"), None)


def _merged(run: RunDirectory, metric: str | None) -> dict[str, Any] | None:
    """What merged.json tells of a run that is complete; None where the journals must be asked."""
    try:
        merged_at = run.merged.stat().st_mtime_ns
        with os.scandir(run.shards) as entries:
            if any(e.name.endswith(".jsonl") and e.stat().st_mtime_ns > merged_at for e in entries):
                return None
        merged = read_head(run.merged, "tasks")
        if is_open_run(merged) or run.plan.stat().st_mtime_ns > merged_at:
            return None
        low, high = merged.get(f"mean_{metric}_interval", (None, None))
        coverage = merged["coverage"]
    except (OSError, ConfigurationError, KeyError, TypeError):
        return None
    return {
        "state": "done",
        "planned": coverage["planned"],
        "finished": coverage["finished"],
        "errors": merged["num_errors"],
        "n": merged.get(f"mean_{metric}_n", 0),
        "mean": merged.get(f"mean_{metric}"),
        "low": low,
        "high": high,
        "merged": True,
    }


def _counted(run: RunDirectory) -> dict[str, Any]:
    """What the journals tell."""
    status = read_status(run)
    n = status.completed if status.rated else 0
    interval = wilson(status.successes, n) if n else None
    state = next((state for state in STATES if status.states[state]), "done")
    if state != "running" and status.completed == status.total:
        state = "done"  # an elastic shard may never have begun: the others did it all
    return {
        "state": state,
        "planned": status.total,
        "finished": status.completed,
        "errors": status.errors,
        "n": n,
        "mean": status.successes / n if n else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "merged": status.merged,
    }


def read_head(path: Path, last: str) -> dict[str, Any]:
    """A JSON object's keys before `last`, where it is as long as all others together and written after them.

    A file that is laid out otherwise is read whole. Raises ConfigurationError where it is no JSON object.
    """
    try:
        with path.open("rb") as stream:
            begin = stream.read(HEAD)
        head, found, _ = begin.partition(f',\n "{last}": ['.encode())
        if found:
            content = json.loads(head + b"}")
            if isinstance(content, dict):
                return content
    except (OSError, ValueError):
        pass
    content = read_merged(path) if last == "tasks" else read_json(path)
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: no JSON object")
    return content


def _created(run: RunDirectory) -> float | None:
    try:
        text = read_json(run.provenance)["created_at"]
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (ConfigurationError, KeyError, TypeError, ValueError):
        return None


def user_name(uid: int) -> str:
    """A user's name, the number where nobody knows it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
