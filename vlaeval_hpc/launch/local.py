"""cluster=local: the server and the shards as processes of this machine, watched until they are done."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.launch.machine import in_turn, share, usable_cpus, usable_gpus
from vlaeval_hpc.launch.process import POLL, Process, end_all
from vlaeval_hpc.launch.roles import server_process, shard_process
from vlaeval_hpc.launch.runtime import Runtime
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.lock import Lock

CONFIGURATION, SICK = 2, 76  # exit statuses that starting again does not mend


class LocalCluster:
    """Runs one planned evaluation on this machine."""

    def __init__(self, config: Config, run: RunDirectory, shards: int, runtimes: Mapping[str, Runtime]) -> None:
        self._config = config
        self._run = run
        self._shards = shards
        self._runtimes = runtimes
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
        return server_process(self._run, 0, self._runtimes["model"], self._gpus, self._cpus)

    def _shard(self, shard: int) -> Process:
        cpus = share(self._cpus, shard, self._shards)
        return shard_process(self._run, shard, self._runtimes["benchmark"], in_turn(self._gpus, shard), cpus)

    def _watch(self, server: Process | None, shards: list[Process], watch: Callable[[], None]) -> None:
        working = list(shards)
        while working:
            if server is not None and server.status() is not None:
                if server.status() == 0 and self._run.stop.exists():
                    server = None  # it saw that all is finished
                elif not self._again(server):
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
        end_all(shards)
        end_all([server] if server else [])


class Stopped(InfrastructureError):
    """A signal ended the evaluation; what was finished is kept."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGINT raise Stopped here, so that children are ended in order; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
