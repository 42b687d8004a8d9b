"""A process in a runtime: its log, its scratch folder, its end."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vlaeval_hpc.launch.runtime import Runtime
from vlaeval_hpc.run.lifeline import variable
from vlaeval_hpc.run.lock import break_supervised_lock, identity

POLL = 0.2
PATIENCE = 10.0  # seconds between asking a process to end and ending it
HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


@dataclass
class Process:
    """A module of this package started in a runtime; `log` None leaves it our own output. `lock` is what it will hold:
    one that a process of ours left is removed before the next starts. `lifeline`: it ends when we are gone, by its
    standard input; else that is ours."""

    name: str
    runtime: Runtime
    module: str
    arguments: Sequence[str]
    log: Path | None
    variables: dict[str, str] = field(default_factory=dict)
    binds: Sequence[str] = ()
    cpus: Sequence[int] = ()
    lock: Path | None = None
    lifeline: bool = True
    nv: bool = False
    restarts: int = 0
    running: subprocess.Popen[bytes] | None = None
    _scratch: Path | None = None

    def start(self) -> None:
        """Start, or start again, appending to the log."""
        parent = os.getpid()
        if self.lock is not None:
            break_supervised_lock(self.lock)
        # On the node's own disk: TMPDIR is what the site says it is.
        self._scratch = self._scratch or Path(tempfile.mkdtemp(prefix="vlaeval_hpc-"))

        libc = ctypes.CDLL(None)  # here: other threads may hold the loader's lock in the child for ever

        def in_child() -> None:
            # The kernel ends a child whose launcher was killed: nothing may run on unwatched.
            libc.prctl(1, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            if self.cpus:
                os.sched_setaffinity(0, self.cpus)

        line = self.runtime.command(self.module, self.arguments, scratch=self._scratch, binds=self.binds, nv=self.nv)
        stream = self.log.open("ab") if self.log else None
        try:
            self.running = subprocess.Popen(
                line,
                env=self.runtime.variables({**self.variables, **(variable(identity()) if self.lifeline else {})}),
                stdin=subprocess.PIPE if self.lifeline else None,  # see run.lifeline: nobody writes into it
                stdout=stream,
                stderr=subprocess.STDOUT if stream else None,
                start_new_session=True,
                preexec_fn=in_child,
            )
        finally:
            if stream:
                stream.close()

    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return None if self.running is None else self.running.poll()

    def signal(self, number: int) -> None:
        """Hand a signal on, if there is anybody to take it."""
        if self.running is not None and self.running.poll() is None:
            self.running.send_signal(number)

    def end(self, deadline: float) -> None:
        """Wait until `deadline` (time.monotonic) for what was asked to end, then end it; the scratch folder goes."""
        if self.running is not None:
            try:
                self.running.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.running.kill()
                self.running.wait()
            if self.running.stdin is not None:
                self.running.stdin.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def last_word(self) -> str:
        """The last line of the log that tells an error, else the last line."""
        text = self.log.read_text(errors="replace") if self.log else ""
        lines = [x for x in text.splitlines() if x.strip()]
        told = [x.removeprefix("error: ") for x in lines if x.startswith("error: ")]
        return (told or lines or ["nothing was printed"])[-1].strip()


def end_all(processes: Sequence[Process]) -> None:
    """Ask them all to end, and end those that do not within PATIENCE."""
    for process in processes:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.end(deadline)


@dataclass(frozen=True)
class Outcome:
    """How supervised processes ended: the first status that is not 0, and the signal that we were sent, if any."""

    status: int
    signal: int | None = None


def supervise(processes: Sequence[Process], tick: Callable[[], None] = lambda: None) -> Outcome:
    """Start them, wait for all, hand on the signals that we get; `tick` is called a few times a second."""
    received: list[int] = []

    def hand_on(number: int, _: object) -> None:
        received.append(number)
        for process in processes:
            with suppress(OSError):
                process.signal(number)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    try:
        for process in processes:
            if not received:
                process.start()
        deadline: float | None = None
        while any(p.running is not None and p.status() is None for p in processes):
            tick()
            if deadline is None and {signal.SIGTERM, signal.SIGINT} & set(received):
                deadline = time.monotonic() + PATIENCE
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(POLL)
    finally:
        end_all(processes)
        for number, handler in before.items():
            signal.signal(number, handler)
    statuses = [p.status() or 0 for p in processes]
    return Outcome(next((128 - s if s < 0 else s for s in statuses if s), 0), received[0] if received else None)
