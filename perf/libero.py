"""LIBERO episodes an hour, ours and vla-eval 0.8.0's: `python perf/libero.py [ROUNDS] [--episodes N] [--tasks N]`.

libero_spatial, 220 steps an episode, two cameras and the state, OSMesa, two shards; chunks of 8, and 1: every frame is
looked at. The kinds take turns, ROUNDS times (2), in one run. An episode's time is from a shard's first look at it to
its first look at the next, resets included, making the simulator not: so each shard's last episode counts no more.
The policy (perf/wave.py) never wins. Checked: success and steps of all; and what was seen, bit for bit, of each shard's
first episode (the peer resets an environment again for each further one, which draws other places for the fixtures).
Exits with 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from perf.peer import libero_peer_python
from perf.processes import CpuLog
from perf.table import Row, show

ROOT = Path(__file__).parent.parent
STEPS = 220
PROMISED = {8: 4.5, 1: 1.2}


class Setting(NamedTuple):
    """What is run: so many shards, episodes of a task and shard, and tasks; `gl` osmesa or egl."""

    episodes: int
    tasks: int = 1
    steps: int = STEPS
    shards: int = 2
    gl: str = "osmesa"


class Run(NamedTuple):
    """What came of one evaluation: seconds and CPU seconds an episode, seconds from Enter to the end of the last one,
    what was seen by (task, episode, step), and (success, steps) by (task, episode)."""

    seconds: float
    cpu: float
    whole: float
    seen: dict[tuple[int, int, int], str]
    outcomes: dict[tuple[int, int], tuple[bool, int]]


def main() -> int:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=3, help="of a task and shard")
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    chosen = Setting(given.episodes, given.tasks, given.steps)
    python = libero_peer_python()
    rows = []
    found: dict[tuple[str, int], list[Run]] = {}
    for number in range(given.rounds):
        for chunk in PROMISED:
            ours = run_ours(chunk, chosen)
            theirs = run_theirs(python, chunk, chosen)
            alike = compare(ours, theirs, chosen.shards)
            found.setdefault(("ours", chunk), []).append(ours)
            found.setdefault(("vla-eval", chunk), []).append(theirs)
            print(f"round {number}, chunk {chunk}: {len(ours.outcomes)} episodes alike, {alike} of them bit for bit")
    for chunk, promised in PROMISED.items():
        pairs = list(zip(found["ours", chunk], found["vla-eval", chunk], strict=True))
        rows += [
            Row(f"episodes/hour, chunk {chunk}", [t.seconds / o.seconds for o, t in pairs], promised, least=True),
            Row("  episodes/CPU hour", [t.cpu / o.cpu for o, t in pairs], 0, least=True),
            Row("  the whole of it, simulators made", [t.whole / o.whole for o, t in pairs], 0, least=True),
        ]
    for (who, chunk), runs in found.items():
        seconds, cpu = (statistics.median(values) for values in zip(*((r.seconds, r.cpu) for r in runs), strict=True))
        print(f"{who:8} chunk {chunk}: {3600 / seconds:6.1f} episodes/hour, {cpu:6.1f} CPU s an episode")
    return 0 if show(rows) else 1


def run_ours(chunk: int, chosen: Setting) -> Run:
    """One command, as anybody gives it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        line = [sys.executable, "-m", "vlaeval_hpc", "--config-dir", str(ROOT / "perf" / "conf")]
        line += ["model=wave", "benchmark=libero", f"model.params.chunk={chunk}", f"model.params.log={log}"]
        line += [f"benchmark.max_tasks={chosen.tasks}", f"benchmark.max_steps={chosen.steps}"]
        line += [f"benchmark.episodes_per_task={chosen.episodes * chosen.shards}"]
        line += [f"cluster.shards={chosen.shards}", f"results={folder}", "run=it"]
        begin = time.time()
        with subprocess.Popen(line, env={**gl(chosen), "PERF_ROOT": str(ROOT)}, stdout=subprocess.DEVNULL) as process:
            with CpuLog([process.pid]) as used:
                assert process.wait() == 0
        tasks = {t["name"]: t["task_id"] for t in json.loads((Path(folder) / "it" / "plan.json").read_text())["tasks"]}
        outcomes = {
            (tasks[task["task"]], e["episode_id"]): (e["metrics"]["success"], e["steps"])
            for task in json.loads((Path(folder) / "it" / "merged.json").read_text())["tasks"]
            for e in task["episodes"]
        }
        return summary(log, begin, used, chosen.shards, outcomes)


def run_theirs(python: Path, chunk: int, chosen: Setting) -> Run:
    """Its server, and its harness once a shard, as its documentation has it without Docker."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        log = Path(folder) / "log"
        # Its adapter wraps torch.load, for initial states that are plain arrays here.
        (Path(folder) / "torch.py").write_text("def load(*arguments, **named):\n    raise NotImplementedError\n")
        benchmark = {
            "benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark",
            "episodes_per_task": chosen.episodes * chosen.shards,
            "max_tasks": chosen.tasks,
            "max_steps": chosen.steps,
            "params": {"suite": "libero_spatial", "seed": 7, "send_wrist_image": True, "send_state": True},
        }
        config = Path(folder) / "config.yaml"
        render = "cpu" if chosen.gl == "osmesa" else "gpu"
        config.write_text(json.dumps({"output_dir": folder, "render": render, "benchmarks": [benchmark]}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        begin = time.time()
        server = subprocess.Popen(
            [str(python), str(ROOT / "perf" / "wave.py"), str(port), str(chunk), str(log)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(server.wait)
        stack.callback(server.kill)
        while not reachable(port):
            assert server.poll() is None, "vla-eval's server did not start"
            time.sleep(0.1)
        line = [str(python.with_name("vla-eval")), "run", "-c", str(config), "--no-docker", "--eval-id", "perf"]
        line += ["--server-url", f"ws://127.0.0.1:{port}", "--num-shards", str(chosen.shards), "--shard-id"]
        shards = []
        for shard in range(chosen.shards):
            errors = stack.enter_context((Path(folder) / f"shard-{shard}.log").open("w"))
            shards.append(
                subprocess.Popen(
                    [*line, str(shard)],
                    env={**gl(chosen), "PYTHONPATH": folder},
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                )
            )
            stack.callback(shards[-1].wait)
            stack.callback(shards[-1].kill)
        with CpuLog([server.pid, *(s.pid for s in shards)]) as used:
            for number, shard_process in enumerate(shards):
                told = Path(folder) / f"shard-{number}.log"
                assert shard_process.wait() == 0, told.read_text()[-2000:]
        return summary(log, begin, used, chosen.shards, {})


def gl(chosen: Setting) -> dict[str, str]:
    """Variables by which both render, one thread a numerical library."""
    return {**os.environ, "MUJOCO_GL": chosen.gl, "PYOPENGL_PLATFORM": chosen.gl, "OMP_NUM_THREADS": "1"}


def reachable(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def summary(
    log: Path, begin: float, used: CpuLog, shards: int, outcomes: dict[tuple[int, int], tuple[bool, int]]
) -> Run:
    """From the policy's log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seen = {(task, episode, step): digest for _, task, episode, step, digest in lines if step is not None}
    ends = {(task, episode): (what[0], what[1]) for _, task, episode, step, what in lines if step is None}
    starts = sorted(at for at, _, _, step, _ in lines if step == 0)
    # Whoever ran which: each shard ran as many, so the sums over the shards are those of the first and last starts.
    first, last = statistics.mean(starts[:shards]), statistics.mean(starts[-shards:])
    count = len(starts) - shards
    cpu = (used.at(last) - used.at(first)) / count
    return Run((last - first) / count, cpu, lines[-1][0] - begin, seen, outcomes or ends)


def compare(ours: Run, theirs: Run, shards: int) -> int:
    """How many episodes are alike in all that was seen. Raises AssertionError where outcomes are not the same."""
    assert ours.outcomes == theirs.outcomes, (ours.outcomes, theirs.outcomes)
    assert set(ours.seen) == set(theirs.seen)
    differ = {key[:2] for key, digest in ours.seen.items() if theirs.seen[key] != digest}
    alike = len(ours.outcomes) - len(differ)
    assert alike >= shards, "not even the shards' first episodes are alike"
    return alike


if __name__ == "__main__":
    sys.exit(main())
