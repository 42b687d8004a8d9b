"""A lock for one shard on a shared file system: O_EXCL, owner named, staleness told by death or silence.

flock is absent or local to the node on many Lustre and NFS mounts, so none is used.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Container, Dict, Optional, Tuple

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run import lifeline
from vlaeval_hpc.run.clock import age
from vlaeval_hpc.run.job import job_name, job_restarts

HEARTBEAT = 15.0
NOTICE = 5.0  # seconds in which an owner leaves whose supervisor is gone
SILENCE = 120.0  # seconds without a heartbeat after which an owner on another host counts as dead


class Lock:
    """Held by at most one living process; `with` or acquire and release.

    An owner on this host is dead when its process is gone; one on another host, or in another container, when it has
    not touched the file for SILENCE seconds by the file system's clock; an earlier start of the same Slurm job is dead
    wherever it was. Raises InfrastructureError, naming the owner, where one lives.
    """

    def __init__(self, path: Path, heartbeat: float = HEARTBEAT) -> None:
        self.path = path
        self.nonce = uuid.uuid4().hex
        self._heartbeat = heartbeat
        self._stop = threading.Event()
        self._heart: Optional[threading.Thread] = None

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, or a dead owner's."""
        for _ in range(5):
            if self._create():
                self._heart = threading.Thread(target=self._beat, name="lock-heartbeat", daemon=True)
                self._heart.start()
                return
            owner = _read_owner(self.path)
            if owner is not None and _alive(self.path, owner):
                raise InfrastructureError(
                    f"{self.path}: held by process {owner.get('pid')} on {owner.get('host')}"
                    f" (job {owner.get('job') or 'none'}): another process runs this shard"
                )
            self._break(owner)
        raise InfrastructureError(f"{self.path}: cannot be taken: others keep taking it")

    def release(self) -> None:
        """Give it up."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join(1.0)  # unless it hangs with its file system
        _unlink(self.path)

    def _create(self) -> bool:
        owner = {**identity(), "nonce": self.nonce, "since": time.time(), "supervisor": lifeline.supervisor()}
        try:
            handle = os.open(str(self.path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise InfrastructureError(f"cannot create {self.path}: {error.strerror}") from error
        with os.fdopen(handle, "w") as stream:
            stream.write(json.dumps(owner) + "\n")
        return True

    def _break(self, stale: Optional[Dict[str, Any]]) -> None:
        """Remove a dead owner's lock. A folder guards the check and the removal, so that two who saw the same dead
        owner cannot remove the lock of the one who was quicker."""
        guard = self.path.with_name(self.path.name + ".break")
        try:
            guard.mkdir()
        except FileExistsError:
            if _age(guard) > SILENCE:
                _rmdir(guard)  # who held the guard died between two lines
            time.sleep(0.2)
            return
        try:
            current = _read_owner(self.path)
            # Nothing there is nothing to remove: by now it may be the lock of one who was quicker.
            if current is not None and current == stale and not _alive(self.path, current):
                _unlink(self.path)
        finally:
            _rmdir(guard)

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat):
            try:
                os.utime(str(self.path))
            except OSError:
                pass  # the file system may be away for a while; silence is judged by others, not here


def break_supervised_lock(path: Path) -> None:
    """Remove a lock whose owner, in a container, was started by us or by a process of this host that is gone.

    To be called before a shard is started: who looks from inside a container sees no process outside, who starts the
    containers does. An owner that only now notices is given a moment to leave.
    """
    owner = _read_owner(path)
    supervisor = owner.get("supervisor") if owner else None
    mine = identity()
    if not owner or not supervisor or _place(supervisor) != _place(mine) or _place(owner) == _place(mine):
        return
    if supervisor["pid"] != os.getpid():
        if _alive(path, supervisor):
            return
        deadline = time.monotonic() + NOTICE
        while time.monotonic() < deadline and _read_owner(path) == owner:
            time.sleep(0.1)
    if _read_owner(path) == owner:
        _unlink(path)


def break_locks_of_jobs(folder: Path, jobs: Container[str]) -> None:
    """Remove the locks that these Slurm jobs hold, all of which have ended: nobody has to wait until they look dead."""
    for path in folder.glob("*.lock"):
        owner = _read_owner(path)
        if owner and owner.get("job") in jobs:
            _unlink(path)


def is_gone(owner: Dict[str, Any]) -> bool:
    """Whether an owner was a process of this host that is not there any more; False for one of another host."""
    return _is_here(owner) and not _runs(owner)


def identity() -> Dict[str, Any]:
    """Who this process is, so that others can tell whether it lives."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "namespace": _namespace(),
        "pid": os.getpid(),
        "started": _process_start(os.getpid()),
        "job": job_name(),
        "restarts": job_restarts(),
    }


def _place(owner: Dict[str, Any]) -> Tuple[Any, Any, Any]:
    """Where an owner's pid means something."""
    return (owner.get("host"), owner.get("boot"), owner.get("namespace"))


def _alive(path: Path, owner: Dict[str, Any]) -> bool:
    if owner.get("job") and owner["job"] == job_name() and owner.get("restarts") != job_restarts():
        return False  # an earlier start of this very job: Slurm ends one before it begins the next
    return _runs(owner) if _is_here(owner) else _age(path) < SILENCE


def _is_here(owner: Dict[str, Any]) -> bool:
    """Whether an owner's pid means something to us."""
    return _place(owner) == (socket.gethostname(), _boot(), _namespace())


def _runs(owner: Dict[str, Any]) -> bool:
    pid = owner.get("pid")
    started = _process_start(pid) if isinstance(pid, int) else None
    # Pids come round again: the same number with another start time is another process.
    return started is not None and started == owner.get("started")


def _age(path: Path) -> float:
    """Seconds since `path` was touched; 0 where that cannot be told: its owner is taken for alive then."""
    try:
        return age(path) or 0.0
    except FileNotFoundError:
        return float("inf")


def _read_owner(path: Path) -> Optional[Dict[str, Any]]:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {} if path.exists() else None  # being written at this instant, or torn: judged by its age
    return owner if isinstance(owner, dict) else {}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Where a pid means something: a container may have pids of its own on the same host."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _process_start(pid: int) -> Optional[int]:
    """Clock ticks from boot to the start of a process (proc(5), stat field 22); None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        pass
