"""A small file system of a run's own, which can be filled to the last block."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

SIZE = 48 << 20


class SmallDisk:
    """An ext4 in a file beside `folder`, mounted there, the user's; by root alone."""

    def __init__(self, folder: Path, uid: int, gid: int) -> None:
        self.folder = folder
        self._image = folder.with_suffix(".img")
        self._ballast = folder / ".ballast"
        folder.mkdir()
        with self._image.open("wb") as stream:
            stream.truncate(SIZE)
        owner = f"root_owner={uid}:{gid}"
        # Nothing is kept for root: it is as full for us as for the user.
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-N", "4096", "-E", owner, str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(folder))

    def fill(self) -> None:
        """Not a block is left."""
        with self._ballast.open("wb") as stream:
            size = SIZE
            while size >= 4096:
                try:
                    os.posix_fallocate(stream.fileno(), os.fstat(stream.fileno()).st_size, size)
                except OSError:
                    size //= 2

    def clear(self) -> None:
        """There is room again."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it, whoever still has a file open there."""
        _run("umount", "--lazy", str(self.folder))
        self._image.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
