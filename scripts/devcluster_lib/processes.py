"""Daemons that outlive the shell: started in the foreground of a session of their own, and told again for sure.

A record in RUN names the process by pid, start time and boot, so that `down` never ends a process that merely has
the pid of one of ours, and by a fingerprint of its command line and configuration, so that `up` restarts exactly the
daemons whose configuration changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .layout import LOG, MARKER, RUN
from .shell import Failure, clean_environment, reason, say, wait_until, write

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Record:
    """What is written down of a started daemon. `started` is None for one that ended before it could be looked at."""

    pid: int
    started: int | None
    boot: str
    fingerprint: str


@dataclass(frozen=True)
class Daemon:
    """How one daemon is started in the foreground, and how to know that it serves."""

    name: str
    argv: tuple[str, ...]
    probe: Callable[[], object]  # Failure while it does not serve
    user: str = "root"
    env: dict[str, str] = field(default_factory=dict)
    config: tuple[Path, ...] = ()
    port: int | None = None
    for_root: bool = False  # only root may ask whether it serves
    seconds: float = 30  # until ready

    @property
    def log(self) -> Path:
        return LOG / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return RUN / f"{self.name}.json"

    def fingerprint(self) -> str:
        """Changes when the daemon has to be restarted."""
        digest = hashlib.sha256("\0".join(self.argv).encode())
        for path in self.config:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def pid(self) -> int | None:
        """The process that we started, if it still runs."""
        record = _read(self.record)
        if record and record.boot == _boot() and record.started and _started(record.pid) == record.started:
            return record.pid
        return None


def start(daemon: Daemon) -> bool:
    """The daemon runs with its present configuration and is ready. Returns whether it had to be started."""
    pid = daemon.pid()
    if pid is not None:
        record = _read(daemon.record)
        if record and record.fingerprint == daemon.fingerprint():
            _wait(daemon)
            return False
        say(f"{daemon.name}: its configuration changed, restarting it")
        stop(daemon)
    if daemon.port is not None and _port_taken(daemon.port):
        raise Failure(f"{daemon.name} needs port {daemon.port} on 127.0.0.1, which another program has: end that one")
    _wait(daemon, _launch(daemon))
    return True


def stop(daemon: Daemon, *, seconds: float = 20) -> bool:
    """End the daemon if we started it and it runs. Returns whether there was something to end."""
    pid = daemon.pid()
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        if not wait_until(lambda: daemon.pid() is None, seconds):
            _signal(pid, signal.SIGKILL)
            wait_until(lambda: daemon.pid() is None, 5)
    daemon.record.unlink(missing_ok=True)
    return pid is not None


def kill_strays() -> int:
    """Kill job steps that outlived their slurmd, with all that they started; returns how many processes."""
    parents = {pid: parent for pid, (_, parent, _) in _all_stats()}
    steps = {pid for pid, (name, _, _) in _all_stats() if name == "slurmstepd" and is_ours(pid)}
    doomed = set(steps)
    while more := {pid for pid, parent in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for pid in doomed:
        _signal(pid, signal.SIGKILL)
    return len(doomed)


def running(*names: str) -> list[tuple[int, str]]:
    """(pid, name) of the processes with one of these names, whoever started them."""
    return [(pid, name) for pid, (name, _, _) in _all_stats() if name in names]


def is_ours(pid: int) -> bool:
    """Whether a process carries our marker. Only root can tell for another user's process."""
    try:
        return "=".join(MARKER).encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _wait(daemon: Daemon, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until the daemon serves; Failure says why it does not. `process` is it, where it was started just now."""
    reasons = [""]

    def serves() -> bool:
        try:
            daemon.probe()
        except Failure as failure:
            reasons.append(str(failure))
            return False
        return True

    def ended() -> bool:
        return process is not None and process.poll() is not None

    if not wait_until(lambda: ended() or serves(), daemon.seconds):
        raise Failure(f"{daemon.name} does not answer in {daemon.seconds:g} s: {reasons[-1]} (its log: {daemon.log})")
    if ended():
        why = reason(daemon.log.read_text(errors="replace"))
        raise Failure(f"{daemon.name} ended at once: {why} (its log: {daemon.log})")


def _launch(daemon: Daemon) -> subprocess.Popen[bytes]:
    """Start it and record who it is; its log is of this start only, the one before is kept as `.1`."""
    account = pwd.getpwnam(daemon.user)
    if daemon.log.exists():
        daemon.log.replace(daemon.log.with_suffix(".log.1"))
    with daemon.log.open("wb") as log:
        process = subprocess.Popen(
            daemon.argv,
            env=clean_environment(**daemon.env),
            cwd="/",
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=os.getgrouplist(daemon.user, account.pw_gid),
            umask=0o022,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record = Record(process.pid, _started(process.pid), _boot(), daemon.fingerprint())
    write(daemon.record, json.dumps(asdict(record)) + "\n")
    return process


def _read(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _boot() -> str:
    return BOOT_ID.read_text().strip()


def _stat(pid: int | str) -> tuple[str, int, int] | None:
    """(name, parent, start time) of a process that is not a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return None if rest[0] == "Z" else (name, int(rest[1]), int(rest[19]))


def _started(pid: int) -> int | None:
    stat = _stat(pid)
    return stat and stat[2]


def _all_stats() -> Iterator[tuple[int, tuple[str, int, int]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(entry.name)):
            yield int(entry.name), stat


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _port_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
