"""More or fewer shards for an elastic run that is under way."""

from __future__ import annotations

from dataclasses import replace

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch import graph, slurm
from vlaeval_hpc.launch.jobs import Submission, read_submissions, record
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.lock import Lock

Changed = tuple[list[int], list[int]]
"""The shards that were added, and those that were cancelled."""


def scale(config: Config, run: RunDirectory, count: int) -> Changed:
    """Bring the shards that are queued or running to `count`: submit more, for which the merge waits too, or cancel
    some, those first that have not begun; others take over what they have in hand.

    Raises ConfigurationError where the run is not elastic, or not under way any more.
    """
    if config.sharding != "elastic":
        raise ConfigurationError(f"{run.root}: sharding={config.sharding}: valid: elastic")
    with Lock(run.server / "submit.lock"):
        *earlier, latest = read_submissions(run) or [Submission()]
        states = graph.active([latest])
        merges = [i for i in latest.ids("merge") if states.get(i) == "PENDING"]
        if not merges:
            raise ConfigurationError(
                f"{run.root}: its merge does not wait any more: valid: resume RUN cluster.shards=N"
            )
        there = {task: members for task, members in latest.tasks("shards") if task in states}
        now = sum(map(len, there.values()))
        if count > now:
            return _add(config, run, earlier, latest, count - now), []
        return [], _cancel(there, states, now - count)


def _add(config: Config, run: RunDirectory, earlier: list[Submission], latest: Submission, more: int) -> list[int]:
    first = 1 + max(shard for s in [*earlier, latest] for _, members in s.tasks("shards") for shard in members)
    shards = list(range(first, first + more))
    jobs = list(latest.jobs)
    for node in graph.build_graph(config, run, shards):
        if node.kind != "shards":
            continue
        job = graph.submit_job(config, run, replace(node, after=None), [])
        jobs.insert(next(i for i, j in enumerate(jobs) if j.kind == "merge"), job)
        arrays = ":".join(j.id for j in jobs if j.kind == "shards")
        jobs = [replace(j, dependency=f"afterany:{arrays}") if j.kind == "merge" else j for j in jobs]
        record(run, [*earlier, replace(latest, jobs=jobs)])
        for merge in [j.id for j in jobs if j.kind == "merge"]:
            slurm.depend(merge, f"afterany:{arrays}")
    return shards


def _cancel(there: dict[str, list[int]], states: dict[str, str], fewer: int) -> list[int]:
    """Whole tasks, as many as fit."""
    gone: list[int] = []
    tasks = sorted(there, key=lambda task: (states[task] != "PENDING", -max(there[task])))
    ids = []
    for task in tasks:
        if len(gone) + len(there[task]) <= fewer:
            gone += there[task]
            ids.append(task)
    slurm.cancel(ids)
    return sorted(gone)
