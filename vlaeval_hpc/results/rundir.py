"""Merging a run directory: its journals against its plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.findings import Findings, Outcome, outcome
from vlaeval_hpc.results.memory import uncollected
from vlaeval_hpc.results.merge import Merged, head, read_merged, summarise
from vlaeval_hpc.results.records import sources
from vlaeval_hpc.results.shardfile import read_shard_file
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.journal import Episode
from vlaeval_hpc.run.plan import Plan
from vlaeval_hpc.run.result import episode_row, is_open, settle

Standing = Mapping[tuple[str, int], Episode]


def merge_run(directory: RunDirectory) -> Merged:
    """Merge what the shards of a run have finished so far, whatever their number; depends on no shard having ended.

    The same outcomes give the same `tasks`, whoever ran them, but for elapsed_sec. `coverage` compares with the plan:
    {planned, finished, missing, retriable (failures that running again would try again), tasks_missing} and, where each
    shard has its items from the beginning, open_shards;
    `partial` where anything is missing. Records that are of another run, not in the plan, or unreadable are not used,
    and are named in `problems`. Raises ConfigurationError where there is no plan that can be read.
    """
    return merge_settled(directory)[0]


@uncollected()
def merge_settled(directory: RunDirectory) -> tuple[Merged, Plan, Standing]:
    """The same, the plan, and the records behind it: a merged result does not tell who ran an episode, and when."""
    plan = Plan.load(directory.plan)
    problems: list[str] = []
    standing = settle(_usable(directory, plan, problems))
    tasks: dict[str, list[Episode]] = {}
    for task, number in sorted(standing):
        tasks.setdefault(task, []).append(episode_row(standing[task, number]))
    merged = {
        **head(plan.name, plan.mode.get("name", "sync")),
        "run": plan.run,
        **_measured_by(directory, plan),
        **_dates(standing.values()),
        "seed": plan.benchmark["seed"],
        **_coverage(directory, plan, standing),
        **summarise(tasks, plan.benchmark["metrics"], problems),
        "config": plan.config,
    }
    return merged, plan, standing


def current_merge(directory: RunDirectory) -> Merged:
    """merged.json where it is newer than all that the shards wrote, else what merge_run finds now; writes nothing.

    Raises ConfigurationError as merge_run does.
    """
    try:
        if is_merged(directory):
            return read_merged(directory.merged)
    except ConfigurationError:
        pass
    return merge_run(directory)


def is_merged(directory: RunDirectory) -> bool:
    """Whether merged.json is newer than all that the shards wrote."""
    try:
        merged_at = directory.merged.stat().st_mtime
        written = [p.stat().st_mtime for p in directory.shards.iterdir() if p.suffix in (".json", ".jsonl")]
    except OSError:
        return False
    # A clock that ticks in seconds stamps both alike: merging again costs seconds at most.
    return all(time < merged_at for time in written)


def is_open_run(merged: Merged) -> bool:
    """Whether an episode is missing, or failed in a way that is worth another try."""
    return bool(merged.get("partial") or merged["coverage"]["retriable"])


def _usable(directory: RunDirectory, plan: Plan, problems: list[str]) -> Iterator[Episode]:
    """Records of planned episodes, one by one: a run's records are never all in memory beside what comes of them.

    At the end `problems` names what was not used, and the outcomes that came twice.
    """
    seeds = {(task, episode): seed for task, episode, seed in plan.items}
    findings = Findings()
    outcomes: dict[tuple[str, int], tuple[str, Outcome]] = {}
    for source in sources(directory, plan.run):
        name = str(source.path)
        problems += source.problems
        for episode in source.episodes:
            key = (episode["task"], episode["episode_id"])
            seed = seeds.get(key)
            if seed is None or episode.get("seed", seed) != seed:
                findings.add(name, "not in the plan, not used", *key)
                continue
            if not episode.get("failure_reason"):  # failures are tried again; only an outcome must not come twice
                result = outcome(episode)
                if key in outcomes:
                    earlier, before = outcomes[key]
                    kind = "the same" if result == before else "another"
                    findings.add(name, f"also in {earlier} with {kind} outcome: the later one is used", *key)
                outcomes[key] = (name, result)
            yield episode
    problems += findings.lines()


def _coverage(directory: RunDirectory, plan: Plan, standing: Standing) -> Merged:
    """`coverage`, vla-eval's `merge_info`, and `partial` where anything is missing."""
    missing = [n for n, (task, episode, _) in enumerate(plan.items) if (task, episode) not in standing]
    shards, open_shards = _shards(directory, plan, missing)
    return {
        **({"partial": True} if missing else {}),
        "coverage": {
            "planned": len(plan.items),
            "finished": len(plan.items) - len(missing),
            "missing": len(missing),
            "retriable": sum(map(is_open, standing.values())),
            **open_shards,
            "tasks_missing": sorted({item.task for item in plan.items} - {task for task, _ in standing}),
        },
        "merge_info": {**shards, "total_episodes": len(standing)},
    }


def _shards(directory: RunDirectory, plan: Plan, missing: Sequence[int]) -> tuple[Merged, Merged]:
    """What vla-eval tells of shards, and the shards that have missing items. No item is an elastic shard's: those are
    told that ran any, and none is missing."""
    if plan.sharding == "elastic":
        found = sorted(directory.shard_numbers(plan.name, plan.shards))
        return {"num_shards": len(found), "shards_found": found, "shards_missing": []}, {}
    missing_of = Counter(n % plan.shards for n in missing)
    sizes = [len(range(shard, len(plan.items), plan.shards)) for shard in range(plan.shards)]
    # vla-eval's word for a shard of which nothing is there; here whoever finished its items counts.
    empty = [shard for shard, size in enumerate(sizes) if size and missing_of[shard] == size]
    found = sorted(set(range(plan.shards)).difference(empty))
    told = {"num_shards": plan.shards, "shards_found": found, "shards_missing": empty}
    return told, {"open_shards": sorted(missing_of)}


def _measured_by(directory: RunDirectory, plan: Plan) -> dict[str, Any]:
    """What only a finished shard's file tells; the first that can be read speaks for all."""
    for shard in range(plan.shards):
        try:
            result = read_shard_file(directory.shard(plan.name, shard, plan.shards).result)
        except ConfigurationError:
            continue
        if result.get("run") == plan.run:
            found = {"shard_harness_version": result.get("harness_version"), "server_info": result.get("server_info")}
            return {k: v for k, v in found.items() if v is not None}
    return {}


def _dates(episodes: Iterable[Episode]) -> dict[str, Any]:
    ends = [e["finished_at"] for e in episodes if isinstance(e.get("finished_at"), (int, float))]
    if not ends:
        return {}
    first, last = (datetime.fromtimestamp(t, timezone.utc).isoformat() for t in (min(ends), max(ends)))
    return {"shard_created_at": {"first": first, "last": last}}
