"""Merging shard result files, with vla-eval 0.2's semantics and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from vlaeval_hpc import __version__
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.aggregate import task_summary, total_summary
from vlaeval_hpc.results.findings import Findings, outcome
from vlaeval_hpc.results.memory import uncollected
from vlaeval_hpc.results.shardfile import ShardResult, content_flaw, read_shard_file
from vlaeval_hpc.run.files import SCHEMA, check_schema, read_json
from vlaeval_hpc.run.journal import Episode

Merged = dict[str, Any]
"""A merged result: vla-eval 0.2's keys, and those of `aggregate.trust`, schema, run, problems."""

NAMED = 5  # files named one by one in an error of one line


@uncollected()
def merge_files(paths: Sequence[Path]) -> Merged:
    """Merge shard files, ours or vla-eval's; where an episode comes twice, the last file's counts.

    Raises ConfigurationError, naming the files, where one is unreadable, truncated, no shard result, of another
    benchmark, number of shards or run, or a shard comes twice. Everything else that is odd is in `problems`.
    """
    shards: list[tuple[str, ShardResult]] = []
    refused: list[str] = []
    for path in paths:
        try:
            shards.append((str(path), read_shard_file(path)))
        except ConfigurationError as error:
            refused.append(str(error))
    if refused:
        _refuse(refused)
    return merge_shards(shards)


def merge_shards(shards: Sequence[tuple[str, ShardResult]]) -> Merged:
    """The same of (file name, checked content); see merge_files."""
    if not shards:
        raise ConfigurationError("no shard files to merge")
    _check_one_run(shards)
    first = shards[0][1]
    total = first["shard"]["total"]
    found = sorted(s["shard"]["id"] for _, s in shards)
    missing = sorted(set(range(total)) - set(found))
    findings = Findings()
    tasks = _pool(shards, findings)
    metric_keys = first.get("metric_keys", {})
    summary = summarise(tasks, metric_keys, _differences(shards) + findings.lines())
    created = sorted(s["created_at"] for _, s in shards if isinstance(s.get("created_at"), str))
    seed = _seed(first)
    return {
        **head(first["benchmark"], first.get("mode", "sync")),
        **{k: first[k] for k in ("run", "server_info") if k in first},
        "shard_harness_version": first.get("harness_version"),
        **({"shard_created_at": {"first": created[0], "last": created[-1]}} if created else {}),
        **({} if seed is None else {"seed": seed}),
        **({"partial": True} if missing or any(s.get("partial") for _, s in shards) else {}),
        "merge_info": {
            "num_shards": total,
            "shards_found": found,
            "shards_missing": missing,
            "total_episodes": summary["num_episodes"],
        },
        **summary,
        "config": first.get("config", {}),
    }


def read_merged(path: Path) -> Merged:
    """A merged file, ours or vla-eval's. Raises ConfigurationError, naming the file, where it is none."""
    try:
        data = read_json(path)
    except RecursionError:
        raise ConfigurationError(f"{path}: not readable as JSON: nested too deeply") from None
    if not isinstance(data, dict) or "merge_info" not in data:
        raise ConfigurationError(f"{path}: not a merged result: no 'merge_info'")
    flaw = content_flaw(data)
    if flaw:
        raise ConfigurationError(f"{path}: not a merged result: {flaw}")
    if "schema" in data:  # vla-eval writes none
        check_schema(path, data["schema"])
    return data


def head(benchmark: str, mode: str) -> Merged:
    """What every merged result begins with."""
    return {
        "schema": SCHEMA,
        "benchmark": benchmark,
        "mode": mode,
        "harness_version": f"{__version__}+vlaeval.hpc",
        "created_at": datetime.now(timezone.utc).isoformat(),
    }


def some(names: Sequence[str]) -> str:
    """The first NAMED, and how many more there are."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def summarise(tasks: Mapping[str, list[Episode]], metric_keys: Mapping[str, str], problems: list[str]) -> Merged:
    """Aggregates of all episodes, `tasks` sorted by name, metric_keys and problems."""
    names = sorted(tasks)
    flat = [episode for name in names for episode in tasks[name]]
    unmeasured = sum(1 for e in flat if "success" in metric_keys and "success" not in e["metrics"])
    if unmeasured:
        problems = [*problems, f"{unmeasured} of {len(flat)} episodes have no 'success' and are in no rate"]
    return {
        **({"metric_keys": dict(metric_keys)} if metric_keys else {}),
        **total_summary(flat, metric_keys),
        "problems": problems,
        "tasks": [task_summary(name, tasks[name], metric_keys) for name in names],
    }


def _pool(shards: Sequence[tuple[str, ShardResult]], findings: Findings) -> dict[str, list[Episode]]:
    """Episodes by task; the last record of an episode_id stands, at the place of the first, as in vla-eval."""
    tasks: dict[str, dict[int, tuple[str, Episode]]] = {}
    for source, shard in shards:
        for task in shard["tasks"]:
            name = task["task"]
            known = tasks.setdefault(name, {})
            for episode in task["episodes"]:
                number = episode["episode_id"]
                if number in known:
                    earlier, before = known[number]
                    kind = "the same" if outcome(before) == outcome(episode) else "another"
                    findings.add(source, f"also in {earlier} with {kind} outcome: the later one is used", name, number)
                known[number] = (source, episode)
    return {name: [episode for _, episode in known.values()] for name, known in tasks.items()}


def _seed(shard: ShardResult) -> Any:
    """Where vla-eval looks for it, else what the file itself says."""
    params = shard.get("config", {}).get("params")
    inside = params.get("seed") if isinstance(params, dict) else None
    return shard.get("seed") if inside is None else inside


def _check_one_run(shards: Sequence[tuple[str, ShardResult]]) -> None:
    """Name the files that are not of the run that most are of, and those that hold the same shard."""
    identities = [(s["benchmark"], s["shard"]["total"], s.get("run")) for _, s in shards]
    common = Counter(identities).most_common(1)[0][0]
    kinds = ("benchmark", "number of shards", "run")
    refused = [
        f"{source}: {kind} {mine!r}, others have {theirs!r}"
        for (source, _), identity in zip(shards, identities, strict=True)
        for kind, mine, theirs in zip(kinds, identity, common, strict=True)
        if mine != theirs
    ]
    if refused:
        _refuse(refused)
    by_id: dict[int, list[str]] = {}
    for source, shard in shards:
        by_id.setdefault(shard["shard"]["id"], []).append(source)
    twice = [f"shard {k} comes {len(v)} times: {some(v)}" for k, v in sorted(by_id.items()) if len(v) > 1]
    if twice:
        _refuse(twice)


def _differences(shards: Sequence[tuple[str, ShardResult]]) -> list[str]:
    """Files of one run whose circumstances differ; the first file's are used."""
    first, reference = shards[0]
    lines = []
    for key in ("metric_keys", "mode", "config", "harness_version"):
        other = [source for source, shard in shards if shard.get(key) != reference.get(key)]
        if other:
            lines.append(f"{some(other)}: '{key}' differs from {first}, whose is used")
    return lines


def _refuse(lines: list[str]) -> NoReturn:
    shown = "; ".join(lines[:NAMED]) + (f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else "")
    raise ConfigurationError(f"cannot merge: {shown}")
