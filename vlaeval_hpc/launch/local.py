"""cluster=local: the server and the shards as processes of this machine, watched until they are done."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.launch.description import command
from vlaeval_hpc.launch.environment import process_environment
from vlaeval_hpc.launch.machine import render_variables, share, usable_cpus, usable_gpus
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.lock import Lock

POLL = 0.2
PATIENCE = 10.0  # seconds between asking a process to end and ending it
CONFIGURATION, SICK = 2, 76  # exit statuses that starting again does not mend


@dataclass
class Process:
    """One started process, its log, and how often it was started again."""

    name: str
    arguments: list[str]
    variables: dict[str, str]
    log: Path
    cpus: list[int]
    restarts: int = 0
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again, appending to the log."""
        parent = os.getpid()

        def in_child() -> None:
            # The kernel ends a child whose launcher was killed: nothing may run on unwatched.
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            if self.cpus:
                os.sched_setaffinity(0, self.cpus)

        with self.log.open("ab") as stream:
            self.running = subprocess.Popen(
                self.arguments,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=in_child,
            )

    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return None if self.running is None else self.running.poll()

    def last_word(self) -> str:
        """The last line of the log that tells an error, else the last line."""
        lines = [x for x in self.log.read_text(errors="replace").splitlines() if x.strip()]
        told = [x.removeprefix("error: ") for x in lines if x.startswith("error: ")]
        return (told or lines or ["nothing was printed"])[-1].strip()


class LocalCluster:
    """Runs one planned evaluation on this machine."""

    def __init__(self, config: Config, run: RunDirectory, shards: int, pythons: dict[str, Path]) -> None:
        self._config = config
        self._run = run
        self._shards = shards
        self._pythons = pythons
        self._cpus = usable_cpus(config.cluster.cpus)
        self._gpus = usable_gpus(config.cluster.gpus)
        self.notes: list[str] = []

    def work(self, shards: list[int], watch: Callable[[], None]) -> None:
        """Run these shards to their end; `watch` is called a few times a second.

        Raises ConfigurationError where nothing can work as it is configured. What else goes wrong is in `notes`, and
        leaves open items in the run directory.
        """
        with Lock(self._run.root / "launch.lock"), _signals_interrupt():
            self._run.stop.unlink(missing_ok=True)
            server = None if self._config.server.url else self._server()
            working = [self._shard(i) for i in shards]
            try:
                for process in [server, *working] if server else working:
                    process.start()
                self._watch(server, working, watch)
            finally:
                self._end(server, working)

    def _server(self) -> Process:
        for stale in self._run.server.glob("rendezvous-*.json"):
            stale.unlink()  # of a server that is not there any more: we hold the lock
        variables = process_environment(self._config.model.environment)
        if self._gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus)
        arguments = command(self._pythons["model"], "vlaeval_hpc.serving", str(self._run.root.resolve()))
        return Process("server", arguments, variables, self._run.logs / "server-0.log", self._cpus)

    def _shard(self, shard: int) -> Process:
        benchmark = self._config.benchmark.environment
        # What the user or the config sets goes before what this machine suggests.
        variables = {**render_variables(self._gpus, shard), **process_environment(benchmark)}
        if self._gpus:
            variables["CUDA_VISIBLE_DEVICES"] = self._gpus[shard % len(self._gpus)]
        root = str(self._run.root.resolve())
        arguments = command(self._pythons["benchmark"], "vlaeval_hpc.worker", root, "--shard-id", str(shard))
        cpus = share(self._cpus, shard, self._shards)
        return Process(f"shard {shard}", arguments, variables, self._run.logs / f"shard-{shard}.log", cpus)

    def _watch(self, server: Process | None, shards: list[Process], watch: Callable[[], None]) -> None:
        working = list(shards)
        while working:
            if server is not None and server.status() is not None:
                if not self._again(server):
                    self._run.stop.touch()  # no server will come: the shards leave by themselves
                    server = None
            for process in list(working):
                status = process.status()
                if status is None or (status and self._again(process)):
                    continue
                working.remove(process)
            watch()
            time.sleep(POLL)

    def _again(self, process: Process) -> bool:
        """Start a process again that ended before its work did, where that can help."""
        status = process.status()
        if status == CONFIGURATION:
            raise ConfigurationError(f"{process.last_word()} (see {process.log})")
        if process.name == "server" and not self._run.rendezvous(0).exists():
            raise ConfigurationError(f"the policy did not load: {process.last_word()} (see {process.log})")
        how = f"was ended by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
        if status == SICK or process.restarts >= self._config.cluster.restarts or self._run.stop.exists():
            self.notes.append(f"{process.name} {how}: {process.last_word()} (see {process.log})")
            return False
        process.restarts += 1
        self.notes.append(f"{process.name} {how}; started again")
        if process.name == "server":
            self._run.rendezvous(0).unlink(missing_ok=True)
        process.start()
        return True

    def _end(self, server: Process | None, shards: list[Process]) -> None:
        """Leave nothing running: shards first, so that they do not wait for a server that goes."""
        with contextlib.suppress(OSError):
            self._run.stop.touch()
        for processes in (shards, [server] if server else []):
            running = [p.running for p in processes if p.running is not None and p.running.poll() is None]
            for one in running:
                one.terminate()
            deadline = time.monotonic() + PATIENCE
            for one in running:
                try:
                    one.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    one.kill()
                    one.wait()


class Stopped(InfrastructureError):
    """A signal ended the evaluation; what was finished is kept."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGINT raise Stopped here, so that children are ended in order."""

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
