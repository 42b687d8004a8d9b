"""What clusters do to an evaluation: a fault happens at random and says what it was; "" where it could not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.disk import SmallDisk
from tests.cluster.conftest import Cluster

NODES = ("cpu01", "cpu02", "cpu03", "cpu04", "gpu01")
SHARD, SIMULATOR, SERVER = ("vlaeval_hpc.worker ", "vlaeval_hpc.worker.simulator ", "vlaeval_hpc.serving ")
PAST_A_LEASE = 14.0  # seconds; four heartbeats of 2.5 s
FULL = (2.0, 8.0)  # seconds that a disk is full or read-only
JUMPS = (60.0, 600.0, 6 * 3600.0)  # seconds


class Nodes:
    """The cluster's nodes, of which no more than one at a time is taken down, by whichever run."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._downs: list[float] = []

    def take_down(self, node: str) -> bool:
        """For a moment."""
        with self._turn:
            self._downs.append(time.monotonic())
            update = ["scontrol", "update", f"nodename={node}"]
            done = subprocess.run([*update, "state=down", "reason=chaos"], capture_output=True)
            time.sleep(2)
            subprocess.run([*update, "state=resume"], capture_output=True)
            return done.returncode == 0

    def downs_since(self, begin: float) -> int:
        """How often one was, whose run's fault it may have been."""
        return sum(at >= begin for at in self._downs)


class Faults:
    """Those of one run, whose results `disk` holds; the files in `clocks` set the clocks of its nodes."""

    def __init__(self, cluster: Cluster, nodes: Nodes, run: Path, disk: SmallDisk | None, clocks: Path) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._run = run
        self._disk = disk
        self._clocks = clocks
        self.kinds: list[Callable[[random.Random], str]] = [
            self.kill_a_shard,
            self.kill_a_simulator,
            self.kill_a_container,
            self.kill_the_server,
            self.cancel_a_task,
            self.requeue_a_task,
            self.requeue_the_server,
            self.take_a_node_down,
            self.pause_a_shard,
            self.fill_the_disk,
            self.refuse_writes,
            self.set_a_clock,
            self.tear_a_journal,
            self.tear_a_lease,
            self.tear_a_small_file,
        ]

    def kill_a_shard(self, rng: random.Random) -> str:
        return self._kill(self.processes(SHARD), rng, "kill -9 of a shard")

    def kill_a_simulator(self, rng: random.Random) -> str:
        return self._kill(self.processes(SIMULATOR), rng, "kill -9 of a simulator")

    def kill_a_container(self, rng: random.Random) -> str:
        """Where there is one: the process that holds up its file system; else a shard's launcher."""
        inside = self.processes(SHARD)
        return self._kill([p for p in map(_parent, inside) if p > 1], rng, "kill -9 of what a shard runs in")

    def kill_the_server(self, rng: random.Random) -> str:
        return self._kill(self.processes(SERVER), rng, "kill -9 of a server")

    def cancel_a_task(self, rng: random.Random) -> str:
        return self._slurm(f"scancel {self._task(rng)}", "scancel of a shard")

    def requeue_a_task(self, rng: random.Random) -> str:
        return self._slurm(f"scontrol requeue {self._task(rng)}", "requeue of a shard")

    def requeue_the_server(self, _: random.Random) -> str:
        return self._slurm(f"scontrol requeue {self._cluster.jobs(self._run)['server'][0]}", "requeue of the server")

    def take_a_node_down(self, rng: random.Random) -> str:
        node = rng.choice(NODES)
        return f"{node} down" if self._nodes.take_down(node) else ""

    def pause_a_shard(self, rng: random.Random) -> str:
        found = self.processes(SHARD)
        if not found:
            return ""
        pid = rng.choice(found)
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(PAST_A_LEASE)
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
        return "SIGSTOP of a shard past its lease"

    def fill_the_disk(self, rng: random.Random) -> str:
        if self._disk is None:
            return ""
        self._disk.fill()
        time.sleep(rng.uniform(*FULL))
        self._disk.clear()
        return "a full disk"

    def refuse_writes(self, rng: random.Random) -> str:
        """As far as that can be had for a time: no folder of the run lets anything be made or removed."""
        modes = {p: p.stat().st_mode for p in [self._run, *self._run.rglob("*")] if p.is_dir()}
        for folder, mode in modes.items():
            folder.chmod(mode & ~0o222)
        time.sleep(rng.uniform(*FULL))
        for folder, mode in modes.items():
            folder.chmod(mode)
        return "a read-only folder"

    def set_a_clock(self, rng: random.Random) -> str:
        """Forward, back, or right again."""
        node, off = rng.choice(NODES), rng.choice((-1, 1)) * rng.uniform(0.5, 1) * rng.choice(JUMPS)
        for name in NODES if rng.random() < 0.25 else (node,):
            set_clock(self._clocks, name, off)
        return f"a clock jumps by {off:+.0f} s"

    def tear_a_journal(self, rng: random.Random) -> str:
        """Cut one in the middle of a line, as a node that loses power does, under a shard that is killed."""
        told = self.kill_a_shard(rng)
        found = sorted(p for p in (self._run / "shards").glob("*.jsonl") if p.stat().st_size)
        if not told or not found:
            return told
        path = rng.choice(found)
        os.truncate(path, path.stat().st_size - rng.randint(1, 200) if path.stat().st_size > 200 else 0)
        return "a truncated journal"

    def tear_a_lease(self, rng: random.Random) -> str:
        return self._tear((self._run / "leases").rglob("*.[0-9]*"), rng)

    def tear_a_small_file(self, rng: random.Random) -> str:
        folder = self._run / rng.choice(("shards", "shards", "server"))
        return self._tear((p for p in folder.glob("*.*") if p.suffix != ".jsonl"), rng)

    def processes(self, module: str) -> list[int]:
        """Those of this run that run a module, in containers too."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            # A container's own processes have the whole line as well, behind their program's name.
            if f"bootstrap.py {module}" in line and f"{self._run} " in line and "python" in line.partition(" ")[0]:
                found.append(int(path.parent.name))
        return sorted(found)

    def _kill(self, found: list[int], rng: random.Random, told: str) -> str:
        if not found:
            return ""
        try:
            os.kill(rng.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            return ""
        return told

    def _tear(self, found: object, rng: random.Random) -> str:
        paths = sorted(p for p in found if p.is_file())  # type: ignore[attr-defined]
        if not paths:
            return ""
        path = rng.choice(paths)
        try:
            os.truncate(path, path.stat().st_size // 2)
        except FileNotFoundError:
            return ""
        return f"a truncated {path.relative_to(self._run).parts[0]} file ({path.suffix})"

    def _task(self, rng: random.Random) -> str:
        job = self._cluster.jobs(self._run)["shards"][0]
        return f"{job}_{rng.randrange(4)}"

    def _slurm(self, command: str, told: str) -> str:
        return "" if subprocess.run(command.split(), capture_output=True).returncode else told


def set_clock(clocks: Path, node: str, off: float) -> None:
    """A node's clock is so many seconds off from now on; see clock/sitecustomize.py."""
    temporary = clocks / f".{node}"
    temporary.write_text(str(off))
    temporary.replace(clocks / node)


def _parent(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[1])
