"""One evaluation under faults, and whether it came out right."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.conftest import SHARED, Cluster
from tests.toys import merged, outcomes

RESUMES = 4
WORK = (
    "cluster=slurm",
    "container=none",
    "cluster.server.partition=gpu",
    "cluster.server.mem=2G",
    "cluster.server.cpus_per_task=1",
    "cluster.shard.mem=1G",
    "cluster.shard.cpus_per_task=1",
    "cluster.merge.mem=1G",
    "cluster.shards=4",
    "benchmark.params.pace=0.25",
    "benchmark.params.tasks=3",
    "benchmark.episodes_per_task=8",
)


@dataclass
class Found:
    """`wrong` is empty, or tells what is."""

    faults: list[str] = field(default_factory=list)
    wrong: str = ""
    resumes: int = 0
    doubled: int = 0


class Chaos:
    """Runs on a cluster, each compared with an undisturbed one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._user = cluster.user
        self._conf = ["--config-dir", str(cluster.checkout / "tests" / "conf"), "model=pilot", "benchmark=toy", "run=a"]
        folder = self._folder("undisturbed")
        local = [a for a in WORK if a.startswith(("benchmark.params.tasks", "benchmark.episodes"))]
        done = cluster.vlaeval(folder, *self._conf, *local)
        assert done.returncode == 0, done.stdout + done.stderr
        self._expected = outcomes(merged(folder, "a"))

    def run(self, seed: int, faults: int) -> Found:
        """Submit, break, resume where needed, compare."""
        rng = random.Random(seed)
        found = Found()
        self._root = self._folder(f"seed-{seed}")
        self._run = self._root / "results" / "a"
        done = self._cluster.vlaeval(self._root, *self._conf, *WORK)
        assert done.returncode == 0, done.stdout + done.stderr
        kinds: list[Callable[[random.Random], str]] = [
            self.kill_a_shard,
            self.kill_a_simulator,
            self.kill_the_server,
            self.cancel_a_task,
            self.requeue_a_task,
            self.requeue_the_server,
            self.take_a_node_down,
            self.pause_a_shard,
            self.refuse_writes,
            self.tear_a_journal,
            self.tear_a_lease,
        ]
        self._wait_for_a_start()
        for _ in range(faults):
            time.sleep(rng.uniform(0.3, 3.0))
            told = rng.choice(kinds)(rng)
            if told:
                found.faults.append(told)
        self._cluster.wait_for_jobs(self._run, 400)
        while not self._complete() and found.resumes < RESUMES:
            found.resumes += 1
            done = self._cluster.vlaeval(self._root, "resume", "results/a")
            if done.returncode:
                found.wrong = f"resume: {done.stderr.strip()}"
                return found
            self._cluster.wait_for_jobs(self._run, 400)
        found.wrong = self._difference()
        counts = Counter((e["task"], e["episode_id"]) for e in self._episodes() if "failure_reason" not in e)
        found.doubled = sum(n - 1 for n in counts.values())
        return found

    # ---- what happens to it

    def kill_a_shard(self, rng: random.Random) -> str:
        return self._kill("vlaeval_hpc.worker ", rng, "kill -9 of a shard")

    def kill_a_simulator(self, rng: random.Random) -> str:
        return self._kill("vlaeval_hpc.worker.simulator ", rng, "kill -9 of a simulator")

    def kill_the_server(self, rng: random.Random) -> str:
        return self._kill("vlaeval_hpc.serving ", rng, "kill -9 of a server")

    def cancel_a_task(self, rng: random.Random) -> str:
        return self._slurm(f"scancel {self._task(rng)}", "scancel of a shard")

    def requeue_a_task(self, rng: random.Random) -> str:
        return self._slurm(f"scontrol requeue {self._task(rng)}", "requeue of a shard")

    def requeue_the_server(self, _: random.Random) -> str:
        return self._slurm(f"scontrol requeue {self._cluster.jobs(self._run)['server'][0]}", "requeue of the server")

    def take_a_node_down(self, rng: random.Random) -> str:
        node = f"cpu0{rng.randint(1, 4)}"
        down = subprocess.run([*self._root_shell, f"scontrol update nodename={node} state=down reason=chaos"])
        time.sleep(2)
        subprocess.run([*self._root_shell, f"scontrol update nodename={node} state=resume"])
        return "" if down.returncode else "a node down"

    def pause_a_shard(self, rng: random.Random) -> str:
        found = self._processes("vlaeval_hpc.worker ")
        if not found:
            return ""
        pid = rng.choice(found)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(14)  # past its lease: four heartbeats of 2.5 s
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
        return "SIGSTOP of a shard past its lease"

    def refuse_writes(self, _: random.Random) -> str:
        folders = [p for p in [self._run / "shards", *(self._run / "leases").rglob("*")] if p.is_dir()]
        for folder in folders:
            folder.chmod(0o555)
        time.sleep(4)
        for folder in folders:
            folder.chmod(0o755)
        return "a read-only folder"

    def tear_a_journal(self, rng: random.Random) -> str:
        """Cut one in the middle of a line, as a node that loses power does, under a shard that is killed."""
        told = self.kill_a_shard(rng)
        found = [p for p in (self._run / "shards").glob("*.jsonl") if p.stat().st_size]
        if not told or not found:
            return told
        path = rng.choice(found)
        os.truncate(path, path.stat().st_size - rng.randint(1, 200) if path.stat().st_size > 200 else 0)
        return "a truncated journal"

    def tear_a_lease(self, rng: random.Random) -> str:
        found = [p for p in (self._run / "leases").rglob("*.[0-9]*") if p.is_file()]
        if not found:
            return ""
        path = rng.choice(found)
        os.truncate(path, path.stat().st_size // 2)
        return "a truncated lease"

    # ---- how

    @property
    def _root_shell(self) -> list[str]:
        return ["bash", "-lc"]

    def _kill(self, module: str, rng: random.Random, told: str) -> str:
        found = self._processes(module)
        if not found:
            return ""
        try:
            os.kill(rng.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            return ""
        return told

    def _processes(self, module: str) -> list[int]:
        """Processes of this run that run a module."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"bootstrap.py {module}" in line and str(self._run) in line:
                found.append(int(path.parent.name))
        return found

    def _task(self, rng: random.Random) -> str:
        return f"{self._cluster.jobs(self._run)['shards'][0]}_{rng.randrange(4)}"

    def _slurm(self, command: str, told: str) -> str:
        return "" if self._cluster.shell(command).returncode else told

    def _wait_for_a_start(self) -> None:
        self._cluster.wait(lambda: self._processes("vlaeval_hpc.worker "), 120, "a shard")

    def _episodes(self) -> list[dict[str, object]]:
        found = []
        for path in sorted((self._run / "shards").glob("*.jsonl")):
            for line in path.read_text(errors="replace").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    def _complete(self) -> bool:
        try:
            result = merged(self._root, "a")
        except (OSError, ValueError):
            return False
        return not result.get("partial") and not result["coverage"]["retriable"]

    def _difference(self) -> str:
        try:
            found = outcomes(merged(self._root, "a"))
        except (OSError, ValueError) as error:
            return f"no merged result: {error}"
        lost = set(self._expected) - set(found)
        changed = [k for k in found if found[k] != self._expected.get(k)]
        return "; ".join([f"lost {sorted(lost)}"] * bool(lost) + [f"changed {changed}"] * bool(changed))

    def _folder(self, name: str) -> Path:
        path = SHARED / "chaos" / name
        shutil.rmtree(path, ignore_errors=True)
        self._cluster.output(f"mkdir -p {path}")
        return path
