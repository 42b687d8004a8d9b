"""One evaluation under faults, and whether it came out right."""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.disk import SmallDisk
from tests.chaos.faults import SHARD, Faults, Nodes
from tests.cluster.conftest import BASE_IMAGE, SHARED, Cluster
from tests.toys import merged, outcomes

RESUMES = 4
PATIENCE = 1200.0  # seconds for what takes one, on a machine that has nothing else to do
SIZE = ("benchmark.params.tasks=3", "benchmark.episodes_per_task=8")
WORK = (
    *SIZE,
    "cluster=slurm",
    "cluster.server.partition=gpu",
    "cluster.server.gres=null",  # there are two GPUs only
    "cluster.server.mem=2G",
    "cluster.server.cpus_per_task=1",
    "cluster.shard.mem=1G",
    "cluster.shard.cpus_per_task=1",
    "cluster.merge.mem=1G",
    "cluster.shards=4",
)


@dataclass
class Found:
    """`wrong` is empty, or tells what is. `others`: nodes that went down for another run, and may have hit this one."""

    faults: list[str] = field(default_factory=list)
    wrong: str = ""
    resumes: int = 0
    doubled: int = 0
    others: int = 0


class Chaos:
    """Runs on a cluster, several at a time, each compared with an undisturbed one. Only root can fill a disk and take
    a node down."""

    def __init__(self, cluster: Cluster, pace: float = 0.25, only: str = "") -> None:
        self._cluster = cluster
        self._pace = pace
        self._only = only
        self._nodes = Nodes()
        self._queue = Queue()
        self._conf = ["--config-dir", str(cluster.checkout / "tests" / "conf"), "model=pilot", "benchmark=toy", "run=a"]
        root = self._folder("undisturbed")
        done = cluster.vlaeval(root, *self._conf, *SIZE)
        assert done.returncode == 0, done.stdout + done.stderr
        self._expected = outcomes(merged(root, "a"))

    def run(self, seed: int, faults: int, containers: bool = False) -> Found:
        """Submit, break, resume where needed, compare. What was wrong stays, in seed-N.kept."""
        root = self._folder(f"seed-{seed}")
        account = pwd.getpwnam(self._cluster.user)
        disk = SmallDisk(root / "results", account.pw_uid, account.pw_gid) if os.geteuid() == 0 else None
        try:
            found = self._run(seed, faults, containers, root, disk)
            if found.wrong:
                shutil.copytree(root, root.with_suffix(".kept"), dirs_exist_ok=True)
        finally:
            if disk is not None:
                disk.remove()
        shutil.rmtree(root, ignore_errors=True)
        return found

    def _run(self, seed: int, count: int, containers: bool, root: Path, disk: SmallDisk | None) -> Found:
        rng, found, begin, downs = random.Random(seed), Found(), time.monotonic(), 0
        run, clocks = root / "results" / "a", root / "clocks"
        clocks.mkdir()
        faults = Faults(self._cluster, self._nodes, run, disk, clocks)
        variables = self._variables(clocks)

        def vlaeval(*arguments: str) -> str:
            done = self._cluster.vlaeval(root, *arguments, timeout=PATIENCE, **variables)
            self._queue.forget()
            return f"{arguments[0]}: {done.stdout}{done.stderr}" if done.returncode else ""

        beside = f"cluster.simulators={1 + seed % 2}"  # every other run has two in each shard
        found.wrong = vlaeval(*self._conf, *WORK, beside, *self._place(clocks, containers))
        if found.wrong:
            return found
        _wait(lambda: faults.processes(SHARD) or self._queue.is_idle(run), "a shard")
        for _ in range(count):
            time.sleep(rng.uniform(0.3, 3.0))
            told = rng.choice([k for k in faults.kinds if self._only in k.__name__])(rng)
            downs += told.endswith(" down")
            found.faults += [told] * bool(told)
        _wait(lambda: self._queue.is_idle(run), "the end of the jobs")
        while not _complete(root) and found.resumes < RESUMES:
            found.resumes += 1
            found.wrong = vlaeval("resume", "results/a")
            if found.wrong:
                return found
            _wait(lambda: self._queue.is_idle(run), "the end of the resumed jobs")
        found.wrong = self._difference(root)
        counts = Counter((e["task"], e["episode_id"]) for e in _episodes(run) if "failure_reason" not in e)
        found.doubled = sum(n - 1 for n in counts.values())
        found.others = self._nodes.downs_since(begin) - downs
        return found

    def _variables(self, clocks: Path) -> dict[str, str]:
        """What makes the wall clocks of the nodes ours to set: jobs have them from who submits."""
        tests = self._cluster.checkout / "tests"
        clock = tests / "chaos" / "clock"
        return {
            "CLOCKS": str(clocks),
            "PYTHONPATH": f"{clock}:{self._cluster.checkout}",
            "TESTS": f"{clock}:{tests}",
        }

    def _place(self, clocks: Path, containers: bool) -> list[str]:
        pace = f"benchmark.params.pace={self._pace}"
        if not containers:
            return [pace, "container=none"]
        build = f"{{BOOTSTRAP: localimage, BASE: {BASE_IMAGE}}}"
        return [
            pace,
            "container=apptainer",
            "benchmark.environment.image=worker.def",
            f"+benchmark.environment.build_args={build}",
            f"benchmark.environment.binds=[{self._cluster.checkout / 'tests'},{clocks}]",
            f"+benchmark.environment.variables.CLOCKS={clocks}",
        ]

    def _difference(self, root: Path) -> str:
        try:
            found = outcomes(merged(root, "a"))
        except (OSError, ValueError) as error:
            return f"no merged result: {error}"
        lost = sorted(set(self._expected) - set(found))
        changed = [(k, found[k]) for k in sorted(found) if found[k] != self._expected.get(k)]
        return "; ".join([f"lost {lost}"] * bool(lost) + [f"changed {changed}"] * bool(changed))

    def _folder(self, name: str) -> Path:
        path = SHARED / "chaos" / name
        # What a run left that was broken off.
        subprocess.run(["umount", "--lazy", str(path / "results")], capture_output=True)
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(path.with_suffix(".kept"), ignore_errors=True)
        self._cluster.output(f"mkdir -p {path}")
        return path


class Queue:
    """Which jobs are queued or running, asked once a second for all runs."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._asked = 0.0
        self._ids: set[str] = set()

    def forget(self) -> None:
        """The last answer is out of date."""
        with self._turn:
            self._asked = 0.0

    def is_idle(self, run: Path) -> bool:
        """Whether none of a run's jobs is there."""
        try:
            submissions = json.loads((run / "jobs.json").read_text())["submissions"]
        except FileNotFoundError:
            return True
        ids = {job["id"] for submission in submissions for job in submission["jobs"]}
        with self._turn:
            if time.monotonic() - self._asked > 1.0:
                done = subprocess.run(["squeue", "-h", "-a", "-o", "%F"], capture_output=True, text=True)
                if done.returncode:
                    return False
                self._ids, self._asked = set(done.stdout.split()), time.monotonic()
            return not ids & self._ids


def _wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(1.0)


def _complete(root: Path) -> bool:
    try:
        result = merged(root, "a")
    except (OSError, ValueError):
        return False
    return not result.get("partial") and not result["coverage"]["retriable"]


def _episodes(run: Path) -> list[dict[str, object]]:
    found = []
    for path in sorted((run / "shards").glob("*.jsonl")):
        for line in path.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found
