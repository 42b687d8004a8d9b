"""Run directories as a large run leaves them, made from nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import SCHEMA
from vlaeval_hpc.run.journal import Episode
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.result import settle, shard_result

SHARDS = 1000
EPISODES = 100  # a shard


def make_run(root: Path, unfinished: int = 0) -> RunDirectory:
    """SHARDS shards of EPISODES episodes with journals and result files; one episode of a hundred failed first.

    Of the last `unfinished` shards every second is running and the rest is stalled, all half-way.
    """
    run = RunDirectory(root)
    run.create()
    items = [Item(f"task-{task:03d}-of-a-suite", episode, 7) for task in range(100) for episode in range(1000)]
    benchmark = {"metrics": {"success": "mean"}, "seed": 7, "params": {"suite": "made up"}}
    plan = Plan("0123456789abcdef", "made-up", SHARDS, items, [], benchmark, {}, {}, {"benchmark": benchmark})
    plan.save(run.plan)
    for shard in range(SHARDS):
        files = run.shard(plan.name, shard, SHARDS)
        done = shard < SHARDS - unfinished
        mine = plan.assigned(shard)[: EPISODES if done else EPISODES // 2]
        records = [record for item in mine for record in _records(plan, shard, item)]
        with files.journal.open("w") as journal:
            journal.writelines(json.dumps({"schema": SCHEMA, **record}) + "\n" for record in records)
        if done:
            result = shard_result(plan, shard, list(settle(records).values()), {"model_server": "made up"})
            files.result.write_text(json.dumps(result, indent=2))
        else:
            _leave_half_way(files.lock, files.progress, dead=shard % 2 == 0)
    return run


def _records(plan: Plan, shard: int, item: Item) -> list[Episode]:
    number = hash((item.episode, shard)) % 1009
    record = {
        "run": plan.run,
        "task": item.task,
        "episode_id": item.episode,
        "seed": item.seed,
        "metrics": {"success": number % 3 > 0},
        "steps": 80 + number % 141,
        "elapsed_sec": round(20 + number / 77, 3),
        "started_at": 1.7e9 + 30 * item.episode,
        "finished_at": 1.7e9 + 30 * item.episode + 25.125,
        "host": f"node-{shard // 8:04d}",
        "shard": shard,
    }
    if number % 100:
        return [record]
    failure = {"failure_reason": "simulator_crash", "failure_detail": "Traceback ...\n" * 20}
    return [{**record, "metrics": {"success": False}, "steps": 0, **failure}, record]


def _leave_half_way(lock: Path, progress: Path, dead: bool) -> None:
    lock.write_text(json.dumps({"host": "node-0001", "pid": 1, "job": "4711"}) + "\n")
    said = {"completed": 50, "total": 100, "errors": 1, "phase": "step", "task": "task-001", "episode": 3}
    progress.write_text(json.dumps({**said, "host": "node-0001", "pid": 1, "updated_at": time.time()}))
    if dead:
        for path in (lock, progress):
            os.utime(path, (time.time() - 3600,) * 2)
