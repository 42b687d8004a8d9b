"""Shard files, journals and run directories made for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.journal import Episode, Journal
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.result import settle, shard_result

RUN = "0123456789abcdef"
SUCCESS = {"success": "mean"}


def made_plan(shards: int, tasks: int = 3, episodes: int = 4, metrics: dict[str, str] = SUCCESS) -> Plan:
    items = [Item(f"task-{task}", episode, 7) for task in range(tasks) for episode in range(episodes)]
    return Plan(RUN, "made", shards, items, [], {"metrics": metrics, "seed": 7}, {}, {}, {"model": "m"})


def made_record(item: Item, success: bool = True, failure: str | None = None, **more: Any) -> Episode:
    """A line of a journal."""
    record = {
        "run": RUN,
        "task": item.task,
        "episode_id": item.episode,
        "seed": item.seed,
        "metrics": {"success": success and failure is None},
        "steps": 10 * (item.episode + 1),
        "elapsed_sec": 1.5,
        **({"failure_reason": failure, "failure_detail": 'said "success": true'} if failure else {}),
        "started_at": 1.7e9 + item.episode,
        "finished_at": 1.7e9 + item.episode + 1.5,
        "host": "here",
        "shard": 0,
    }
    return {**record, **more}


def made_run(root: Path, plan: Plan) -> RunDirectory:
    run = RunDirectory(root)
    run.create()
    plan.save(run.plan)
    return run


def write_journal(run: RunDirectory, plan: Plan, shard: int, records: Iterable[Episode]) -> Path:
    path = run.shard(plan.name, shard, plan.shards).journal
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path


def write_result(run: RunDirectory, plan: Plan, shard: int, records: Iterable[Episode]) -> Path:
    path = run.shard(plan.name, shard, plan.shards).result
    episodes = list(settle(records).values())
    path.write_text(json.dumps(shard_result(plan, shard, episodes, {"model_server": "made"})))
    return path


def shard_content(
    shard: int, total: int, episodes: Iterable[tuple[str, dict[str, Any]]], metric_keys: dict[str, str] = SUCCESS
) -> dict[str, Any]:
    """What vla-eval 0.2 writes of a shard: (task, episode) in the order in which they were run."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for task, episode in episodes:
        tasks.setdefault(task, []).append(episode)
    return {
        "benchmark": "Made",
        "mode": "sync",
        "harness_version": "0.2.0",
        "created_at": f"2026-01-0{shard % 9 + 1}T00:00:00+00:00",
        "tasks": [{"task": task, "episodes": found, "num_episodes": len(found)} for task, found in tasks.items()],
        "config": {"benchmark": "made:Made", "params": {"seed": 7}},
        "seed": 7,
        "metric_keys": metric_keys,
        "server_info": {"model_server": "made"},
        "shard": {"id": shard, "total": total},
    }


def write_shards(folder: Path, contents: Iterable[dict[str, Any]]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for content in contents:
        path = folder / f"made_shard{content['shard']['id']}of{content['shard']['total']}.json"
        path.write_text(json.dumps(content))
        paths.append(path)
    return paths


@st.composite
def results(draw: st.DrawFn, graded: bool = True) -> list[tuple[str, dict[str, Any]]]:
    """Episodes of a few tasks, some failed; every (task, episode_id) once, in any order."""
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
    keys = draw(st.lists(st.tuples(st.sampled_from(names), st.integers(0, 20)), max_size=25, unique=True))
    found = []
    for task, number in keys:
        failed = draw(st.booleans()) and draw(st.booleans())
        metrics: dict[str, Any] = {"success": draw(st.booleans()) and not failed}
        if graded and not failed:
            metrics |= {"progress": draw(st.integers(0, 100)) / 100, "subtasks": draw(st.integers(0, 5))}
        episode: dict[str, Any] = {"metrics": metrics, "episode_id": number}
        if failed:
            episode |= {"failure_reason": draw(st.sampled_from(["timeout", "exception"])), "failure_detail": "x"}
        else:
            episode |= {"steps": draw(st.integers(0, 600)), "elapsed_sec": 1.25}
        found.append((task, episode))
    return found
