"""Time of the first screen of `browse`, and of `query`, over a results root of 10,000 runs and 5 million episodes.

    python perf/browse.py [FOLDER]

The root is made in FOLDER (default: a temporary one; about 3 GB), unless it is there: a few runs are made and merged as
always, and copied under other names; 20 are running and 80 partial. Figures are the best of some fresh processes, after
the first index; what that takes, once, stands beside them. The screen is that of a terminal of 80 x 24, and the time
ends when a run's name is on it; beside it stand an app that shows one word, and a process that counts in one Parquet
file. Exits with 1 where a promise is not kept.
"""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import ROUNDS, best_of

from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import SCHEMA
from vlaeval_hpc.run.plan import Item, Plan

RUNS = 10_000
RUNNING, PARTIAL = 20, 80
MODELS = 20
TASKS, EPISODES = 10, 50
SHARDS = 2
BROWSE_SECONDS, QUERY_SECONDS = 1.0, 2.0
LEAST_SCREEN = """
from textual.app import App
from textual.widgets import Static
class Least(App):
    BINDINGS = [("q", "quit", "Quit")]
    def compose(self):
        yield Static("made-up")
Least().run()
"""
LEAST_QUERY = """
import duckdb, pathlib, sys
pack = next(pathlib.Path(sys.argv[1]).rglob("episodes.parquet"))
sql = "select task, sum(success), count(*) from read_parquet($1) group by task"
print(duckdb.connect().execute(sql, [str(pack)]).fetchall())
"""
SQL = "select task, sum(success) as successes, count(*) as n from episodes group by task order by task"


def make_root(root: Path) -> None:
    """RUNS runs, by project."""
    patterns = root.with_name(root.name + ".patterns")
    for number in range(MODELS):
        _make_run(patterns / f"done-{number}", number, EPISODES * TASKS // SHARDS)
        merge_into_files(RunDirectory(patterns / f"done-{number}"))
        _make_run(patterns / f"open-{number}", number, 100)
    for number in range(RUNS):
        kind = "open" if number < RUNNING + PARTIAL else "done"
        folder = root / f"project-{number % 10}" / f"model-{number % MODELS}_step-{number:05}_made-up"
        shutil.copytree(patterns / f"{kind}-{number % MODELS}", folder, copy_function=_copy)
        for shard in range(SHARDS) if number < RUNNING else ():
            files = RunDirectory(folder).shard("made-up", shard, SHARDS)
            files.lock.write_text(json.dumps({"host": "node-0001", "pid": 1, "job": "4711"}) + "\n")
    shutil.rmtree(patterns)


def _copy(source: str, target: str) -> None:
    # What nobody reads here is linked: it would be 3 GB more.
    if source.endswith((".jsonl", ".csv")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _make_run(root: Path, number: int, finished: int) -> None:
    run = RunDirectory(root)
    run.create()
    items = [Item(f"task-{task}-of-a-suite", episode, 7) for task in range(TASKS) for episode in range(EPISODES)]
    benchmark = {"metrics": {"success": "mean"}, "seed": 7, "max_steps": 220, "params": {"suite": "made up"}}
    model = {"name": f"model-{number}", "checkpoint": f"checkpoints/{number}"}
    plan = Plan(f"{number:016x}", "made-up", SHARDS, items, [], benchmark, model, {}, {"params": benchmark["params"]})
    plan.save(run.plan)
    run.provenance.write_text(json.dumps({"created_at": "2026-11-01T00:00:00+0000", "vlaeval_hpc": "0.1.0"}))
    for shard in range(SHARDS):
        with run.shard(plan.name, shard, SHARDS).journal.open("w") as journal:
            for item in plan.assigned(shard)[:finished]:
                chance = (item.episode * 7919 + int(item.task[5]) + number) % 100
                record = {
                    "run": plan.run,
                    "task": item.task,
                    "episode_id": item.episode,
                    "seed": item.seed,
                    "metrics": {"success": chance < 5 * number},
                    "steps": 80 + chance,
                    "elapsed_sec": round(20 + chance / 7, 3),
                    "started_at": 1.7e9 + 30 * item.episode,
                    "finished_at": 1.7e9 + 30 * item.episode + 25.125,
                    "host": f"node-{shard:04d}",
                    "shard": shard,
                }
                journal.write(json.dumps({"schema": SCHEMA, **record}) + "\n")


def first_screen(command: list[str]) -> float:
    """Seconds until a run's name is on the terminal."""
    begin = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="80", LINES="24")
        os.execv(command[0], command)
    seen = b""
    while b"made-up" not in seen:
        if not select.select([terminal], [], [], 60)[0]:
            raise RuntimeError("no screen in a minute")
        seen += os.read(terminal, 65536)
    found = time.perf_counter() - begin
    os.write(terminal, b"q")
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass
    os.waitpid(pid, 0)
    return found


def main() -> int:
    """The table."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(sys.argv[1] if len(sys.argv) > 1 else temporary) / "results"
        os.environ["VLAEVAL_HPC_CACHE"] = f"{temporary}/cache"
        if not root.exists():
            begin = time.perf_counter()
            make_root(root)
            print(f"{RUNS} runs made in {time.perf_counter() - begin:.0f} s", flush=True)
        python = [sys.executable, "-m", "vlaeval_hpc"]
        ask = [*python, "query", str(root), SQL]
        begin = time.perf_counter()
        subprocess.run([*python, "query", str(root), "select count(*) from runs"], check=True, capture_output=True)
        once = time.perf_counter() - begin
        subprocess.run(ask, check=True, capture_output=True)  # puts the episodes together, once
        cache = os.environ["VLAEVAL_HPC_CACHE"]
        browse, least_app = [*python, "browse", str(root)], [sys.executable, "-c", LEAST_SCREEN]
        screens = [(first_screen(browse), first_screen(least_app)) for _ in range(ROUNDS)]
        measured = {
            "browse": tuple(map(min, zip(*screens, strict=True))),
            "query": (best_of(ask).seconds, best_of([sys.executable, "-c", LEAST_QUERY, cache]).seconds),
        }
    print(f"over {RUNS} runs of {TASKS * EPISODES} episodes, best of {ROUNDS} processes; once, the index: {once:.1f} s")
    print(" " * 8 + "".join(f"{name:>10}" for name in ("seconds", "promised", "x least")))
    kept = True
    for name, promised in (("browse", BROWSE_SECONDS), ("query", QUERY_SECONDS)):
        mine, least = measured[name]
        print(f"{name:8}{mine:10.2f}{promised:10.0f}{mine / least:10.1f}")
        kept = kept and mine < promised
    print("promise kept" if kept else "PROMISE BROKEN")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
