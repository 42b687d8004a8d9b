"""Making what the cache lacks once, whichever processes want it, on whichever nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLock, Timeout

from vlaeval_hpc.errors import ConfigurationError


@contextmanager
def making(path: Path, timeout: float, say: Callable[[str], None]) -> Iterator[None]:
    """While one process makes `path`, others wait for it, `timeout` seconds at most; whoever waited looks whether it is
    there now. `say` hears of the wait. Raises ConfigurationError where it takes longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Soft: a file made with O_EXCL, since the cache may lie on NFS or Lustre.
    lock = SoftFileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{lock.lock_file} is held: waiting for another process that makes {path.name}")
        try:
            lock.acquire(timeout=timeout, poll_interval=1.0)
        except Timeout:
            hours = f"{timeout / 3600:g} h"
            raise ConfigurationError(f"{lock.lock_file} is held for {hours}: remove it if nobody works there") from None
    try:
        yield
    finally:
        lock.release()
