"""Where a run stands, told from its files alone: no job is asked, no server, no Slurm."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlaeval_hpc.results.records import sources
from vlaeval_hpc.results.tally import Tally, tally
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.journal import Episode, read_journal
from vlaeval_hpc.run.lock import SILENCE
from vlaeval_hpc.run.plan import Plan
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.run.result import settle

STATES = ("running", "stalled", "waiting", "done")


@dataclasses.dataclass(frozen=True)
class ShardStatus:
    """One shard of the plan; a static one's episodes are counted whichever process finished them, an elastic one has
    those that it ran.

    `rate` in episodes a second, since this process began.

    state: `running` (its lock's owner was heard of within lock.SILENCE seconds), `stalled` (not so), `waiting`
    (nobody has it and items are missing), `done`. heartbeat_age in seconds; what is not known is None.
    """

    shard: int
    state: str
    completed: int
    total: int
    errors: int
    successes: int
    heartbeat_age: float | None = None
    host: str | None = None
    phase: str | None = None
    task: str | None = None
    episode: int | None = None
    steps: int | None = None
    job: str | None = None
    rate: float | None = None


@dataclasses.dataclass(frozen=True)
class ServerStatus:
    """A replica of the server that has published itself; heartbeat_age in seconds."""

    replica: int
    host: str
    job: str | None
    heartbeat_age: float


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """A run. `rated` tells whether `successes` means anything: whether the benchmark has that metric. `rate` is that
    of the running shards, `seconds_left` what it makes of the open episodes; None where none has ended yet."""

    run: str
    name: str
    total: int
    completed: int
    errors: int
    successes: int
    rated: bool
    merged: bool
    states: dict[str, int]
    shards: list[ShardStatus]
    servers: list[ServerStatus]
    rate: float | None
    seconds_left: float | None
    problems: list[str]


def read_status(directory: RunDirectory) -> RunStatus:
    """Read the run directory. Raises ConfigurationError where there is no plan that can be read."""
    plan = Plan.load(directory.plan)
    problems: list[str] = []
    counts, completed = _counts(directory, plan, problems)
    listing = {entry.name: entry for entry in os.scandir(directory.shards)} if directory.shards.is_dir() else {}
    now = _file_system_time(directory.shards)
    shards = [_shard(directory, plan, shard, count, listing, now) for shard, count in enumerate(counts)]
    states = Counter(s.state for s in shards)
    total = len(plan.items)
    rate = sum(s.rate or 0.0 for s in shards if s.state == "running") or None
    return RunStatus(
        run=plan.run,
        name=plan.name,
        total=total,
        completed=completed,
        errors=sum(s.errors for s in shards),
        successes=sum(s.successes for s in shards),
        rated="success" in plan.benchmark["metrics"],
        merged=directory.merged.exists(),
        states={state: states[state] for state in STATES},
        shards=shards,
        servers=_servers(directory, now),
        rate=rate,
        seconds_left=(total - completed) / rate if rate else None,
        problems=problems,
    )


def _servers(directory: RunDirectory, now: float) -> list[ServerStatus]:
    found = []
    for path in sorted(directory.server.glob("rendezvous-*.json")):
        published = Rendezvous.read(path)
        if published is not None and published.pid:  # a server that is not ours does not keep its file fresh
            age = now - path.stat().st_mtime
            found.append(ServerStatus(published.replica, published.host, published.job, round(max(age, 0.0), 1)))
    return found


def _counts(directory: RunDirectory, plan: Plan, problems: list[str]) -> tuple[list[Tally], int]:
    """What is finished, of each shard's items by whomever, or by each elastic shard; and of all."""
    if plan.sharding == "static":
        counts = _tallied(directory, plan) or _settled(directory, plan, problems)
        return counts, sum(count.completed for count in counts)
    return _shared(directory, plan, problems)


def _shared(directory: RunDirectory, plan: Plan, problems: list[str]) -> tuple[list[Tally], int]:
    index = {(task, episode): number for number, (task, episode, _) in enumerate(plan.items)}
    shards = max([plan.shards - 1, *directory.shard_numbers(plan.name, plan.shards)]) + 1  # it may have been scaled
    numbers = {directory.shard(plan.name, shard, plan.shards).journal: shard for shard in range(shards)}
    completed, errors, successes = ([0] * (shards + 1) for _ in Tally._fields)  # the last: of other splits
    seen = set()
    for path in directory.journals():
        shard = numbers.get(path, shards)
        found = read_journal(path, plan.run)
        problems += found.problems
        for key, episode in settle(e for e in found.episodes if (e["task"], e["episode_id"]) in index).items():
            if key in seen and episode.get("failure_reason"):
                continue
            completed[shard] += key not in seen
            seen.add(key)
            errors[shard] += bool(episode.get("failure_reason"))
            successes[shard] += bool(episode["metrics"].get("success"))
    return list(map(Tally, completed, errors, successes))[:-1], len(seen)


def _tallied(directory: RunDirectory, plan: Plan) -> list[Tally] | None:
    """The quick way; None where files of another number of shards, or anything unusual, has to be understood."""
    files = [directory.shard(plan.name, shard, plan.shards) for shard in range(plan.shards)]
    journals = set(directory.journals())
    lone = {path.with_suffix(".jsonl") for path in directory.shards.glob("*.json")} - journals
    if lone or not journals <= {f.journal for f in files}:
        return None
    counts = []
    for shard, f in enumerate(files):
        try:
            found = tally(f.journal.read_bytes(), plan.run) if f.journal in journals else Tally()
        except OSError:
            found = None
        if found is None or found.completed > _size(plan, shard):
            return None
        counts.append(found)
    return counts


def _settled(directory: RunDirectory, plan: Plan, problems: list[str]) -> list[Tally]:
    completed, errors, successes = ([0] * plan.shards for _ in Tally._fields)
    index = {(task, episode): number for number, (task, episode, _) in enumerate(plan.items)}
    for key, episode in settle(_slim(directory, plan.run, index, problems)).items():
        shard = index[key] % plan.shards
        completed[shard] += 1
        errors[shard] += bool(episode.get("failure_reason"))
        successes[shard] += bool(episode["success"])
    return list(map(Tally, completed, errors, successes))


def _slim(
    directory: RunDirectory, run: str, planned: Mapping[tuple[str, int], int], problems: list[str]
) -> Iterator[Episode]:
    # A hundred thousand whole records would cost a second in memory alone.
    for source in sources(directory, run):
        problems += source.problems
        for e in source.episodes:
            if (e["task"], e["episode_id"]) in planned:
                slim = {"task": e["task"], "episode_id": e["episode_id"], "success": e["metrics"].get("success")}
                if "failure_reason" in e:
                    slim["failure_reason"] = e["failure_reason"]
                yield slim


def _size(plan: Plan, shard: int) -> int:
    """The items of a static shard."""
    return len(range(shard, len(plan.items), plan.shards))


def _shard(
    directory: RunDirectory, plan: Plan, shard: int, count: Tally, listing: Mapping[str, os.DirEntry[str]], now: float
) -> ShardStatus:
    files = directory.shard(plan.name, shard, plan.shards)
    elastic = plan.sharding == "elastic"
    total = count.completed if elastic else _size(plan, shard)
    locked = _age(listing, files.lock, now)
    reported = _age(listing, files.progress, now)
    ages = [age for age in (locked, reported) if age is not None]
    if locked is not None and min(ages) < SILENCE:
        state = "running"
    elif files.result.name in listing if elastic else count.completed == total:
        state = "done"
    else:
        state = "waiting" if locked is None else "stalled"
    progress = {} if reported is None or state == "done" else _progress(files.progress)
    return ShardStatus(
        shard=shard,
        state=state,
        total=total,
        **count._asdict(),
        heartbeat_age=round(max(min(ages), 0.0), 1) if ages else None,
        **progress,
    )


def _progress(path: Path) -> dict[str, Any]:
    """What a shard says of itself; nothing where the file is gone by now or another program's."""
    try:
        said = json.loads(path.read_bytes())
        known = {"host": str, "phase": str, "task": str, "episode": int, "steps": int, "job": str}
        found = {k: said[k] for k, kind in known.items() if isinstance(said.get(k), kind)}
        elapsed = said["updated_at"] - said["began_at"] if said.get("ran") else 0.0
        return {**found, "rate": said["ran"] / elapsed} if elapsed > 0 else found
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def _age(listing: Mapping[str, os.DirEntry[str]], path: Path, now: float) -> float | None:
    try:
        return now - listing[path.name].stat().st_mtime
    except (KeyError, OSError):
        return None


def _file_system_time(folder: Path) -> float:
    """The clock that stamps the files of `folder`: a server's may differ from ours by minutes."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()  # somebody else's run: it can be read, not written
