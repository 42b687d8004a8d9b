"""Makespan for real: worker processes that sleep through episodes with LIBERO's tails, on this machine.

python perf/elastic.py               # 8 shards that start over half of the run, one is killed; 10 s to load are 1.7 s

The shards are started one by one, as array tasks are: elastic ones take leases from files, static ones have their
items, and the one that is killed is started again in its place. Beside it stands the bound that perf/makespan.py has.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from perf.makespan import LOAD, World, bound, draw

ROOT = Path(__file__).parent.parent
SHARDS = 8
TASKS = 4
SCALE = 1 / 6  # of the seconds in perf/makespan.py


def scaled(episodes: int, seed: int) -> World:
    """What is to be run, in seconds of this machine."""
    world = draw(seed, episodes, TASKS, SHARDS, 1)
    times = [[t * SCALE for t in values] for values in (world.lengths, world.starts, world.deaths)]
    return World(world.items, *times)


def measure(world: World, sharding: str, folder: Path) -> float:
    """Seconds from the first shard's start to the end of the last episode."""
    lengths: dict[str, list[float]] = {}
    for item, length in zip(world.items, world.lengths, strict=True):
        lengths.setdefault(item.task, []).append(length)
    (folder / "lengths.json").write_text(json.dumps(lengths))
    run = folder / sharding
    _vlaeval(
        folder, "--config-dir", str(ROOT / "perf" / "conf"), "model=random", "model.params.dim=1",
        "model.params.chunk=1000", "benchmark=tails", f"benchmark.params.lengths={folder / 'lengths.json'}",
        f"benchmark.params.load={LOAD * SCALE}", f"benchmark.episodes_per_task={len(world.items) // TASKS}",
        f"cluster.shards={SHARDS}", f"sharding={sharding}", f"results={folder}", f"run={sharding}", "submit=false",
    ).wait()  # fmt: skip
    server = _vlaeval(folder, "serve", str(run))
    while not list((run / "server").glob("rendezvous-*.json")):
        time.sleep(0.1)
    begin = time.time()
    running: dict[int, subprocess.Popen[bytes]] = {}
    waiting, dying = dict(enumerate(world.starts)), {i: d for i, d in enumerate(world.deaths) if d < float("inf")}
    try:
        while waiting or any(p.poll() is None for p in running.values()):
            now = time.time() - begin
            for shard in [s for s, at in waiting.items() if at <= now]:
                del waiting[shard]
                running[shard] = _vlaeval(folder, "shard", str(run), "--shard-id", str(shard))
            for shard in [s for s, at in dying.items() if at <= now and s in running]:
                del dying[shard]
                for lock in (run / "shards").glob(f"*_shard{shard}of*.lock"):
                    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
                running[shard].wait()
                if sharding == "static":
                    waiting[shard] = now
            time.sleep(0.05)
    finally:
        for process in [server, *running.values()]:
            _end(process)
    ends = [json.loads(line)["finished_at"] for p in (run / "shards").glob("*.jsonl") for line in p.open()]
    assert len(ends) >= len(world.items), f"{len(world.items) - len(ends)} episodes are missing: {folder}"
    return max(ends) - begin


def _vlaeval(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "PERF_ROOT": str(ROOT), "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "vlaeval_hpc", *arguments], stdout=log, stderr=log, env=variables
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--episodes", type=int, nargs="+", default=[320, 80])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for episodes in arguments.episodes:
        world = scaled(episodes, arguments.seed)
        best = bound(world, LOAD * SCALE)
        told = [f"bound {best:.1f} s"]
        for sharding in ("elastic", "static"):
            folder = Path(tempfile.mkdtemp(prefix="elastic-"))
            seconds = measure(world, sharding, folder)
            told.append(f"{sharding} {seconds:.1f} s, {best / seconds:.3f} of it")
            shutil.rmtree(folder)
        print(f"{episodes} episodes, {SHARDS} shards: {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
