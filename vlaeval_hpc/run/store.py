"""The few file operations that leases are made of, in one folder of a shared file system."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import List, Optional

from vlaeval_hpc.errors import InfrastructureError

CLOCK_EVERY = 60.0  # seconds between two looks at the file system's clock


class Store:
    """Names are relative to `folder`. `clock` is a file of ours, whose touch tells the file system's time.

    Raises InfrastructureError where the file system refuses to write; what cannot be read is taken for absent.
    """

    def __init__(self, folder: Path, clock: Path) -> None:
        self._folder = folder
        self._clock = clock
        self._offset = 0.0
        self._looked = -CLOCK_EVERY

    def create(self, name: str, text: str = "") -> bool:
        """Make a file that does not exist; False where it does. It is the creation that counts: the content may follow
        later, or never where we die."""
        path = self._folder / name
        try:
            handle = os.open(str(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise InfrastructureError(f"cannot create {path}: {error.strerror}") from error
        try:
            os.write(handle, text.encode())  # a torn record is read as none, and replaced
        except OSError as error:
            raise InfrastructureError(f"cannot write {path}: {error.strerror}") from error
        finally:
            os.close(handle)
        return True

    def read(self, name: str) -> Optional[str]:
        """A file's text; None where there is none."""
        try:
            return (self._folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def names(self, folder: str) -> List[str]:
        """What lies in a folder."""
        try:
            return os.listdir(str(self._folder / folder))
        except OSError:
            return []

    def age(self, name: str) -> Optional[float]:
        """Seconds since a file was written or touched, by the file system's clock; None where there is none."""
        try:
            # Opened, not only asked for: by that a network file system looks anew.
            handle = os.open(str(self._folder / name), os.O_RDONLY)
        except OSError:
            return None
        try:
            return self._now() - os.fstat(handle).st_mtime
        finally:
            os.close(handle)

    def _now(self) -> float:
        if time.monotonic() - self._looked > CLOCK_EVERY:
            try:
                os.utime(str(self._clock))
                self._offset = self._clock.stat().st_mtime - time.monotonic()
                self._looked = time.monotonic()
            except OSError:
                pass
        return time.monotonic() + self._offset
