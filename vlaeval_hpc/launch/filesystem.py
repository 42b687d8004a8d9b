"""The file system that holds a path, and whether other machines can see it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from vlaeval_hpc.errors import ConfigurationError

MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
NODE_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
NETWORKED = re.compile(
    r"nfs\d?|lustre|gpfs|beegfs|ceph|cifs|smb3?|afs|wekafs|panfs|pvfs2|orangefs|9p|virtiofs|fuse\..*"
)
"""Types of which another machine may have a part; FUSE brings many more of them."""


class FileSystem(NamedTuple):
    """What a path lies on: the type and mount point, as /proc/self/mountinfo names them, and what is mounted there."""

    type: str
    mount_point: Path
    source: str

    @property
    def networked(self) -> bool:
        """Whether it is of a type that comes over a network."""
        return NETWORKED.fullmatch(self.type) is not None

    def __str__(self) -> str:
        return f"{self.type} at {self.mount_point}"


def file_system(path: Path) -> FileSystem:
    """The file system of a path, which need not exist yet: the mount that is nearest above it, and the last there."""
    resolved = path.resolve()
    found = FileSystem("unknown", Path("/"), "unknown")
    for line in MOUNTS.read_text(errors="replace").splitlines():
        # proc(5): id, parent, major:minor, root, mount point, options, optional fields, "-", type, source, ...
        before, _, after = line.partition(" - ")
        kind, source = after.split()[:2]
        point = Path(_unescape(before.split()[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= len(found.mount_point.parts):
            found = FileSystem(kind, point, _unescape(source))
    return found


def seen_here_only(path: Path) -> str | None:
    """Why no other machine can see a path; None where nothing tells that."""
    holder, resolved = file_system(path), path.resolve()
    if holder.networked:
        return None  # even where it is mounted below /tmp
    if holder.type in IN_MEMORY:
        return str(holder)
    below = next((f for f in _node_folders() if resolved.is_relative_to(f)), None)
    return None if below is None else f"{holder}, below {below}"


def check_shared(path: Path) -> None:
    """Raises ConfigurationError where compute nodes cannot see a results folder: it is in this node's memory, or below
    a folder that each node has for itself."""
    why = seen_here_only(path)
    if why is not None:
        raise ConfigurationError(
            f"results: {path} is on this node only ({why}): compute nodes cannot see it:"
            " choose results= on a shared file system"
        )


def _node_folders() -> list[Path]:
    named = [Path(f).resolve() for f in (*NODE_FOLDERS, os.environ.get("TMPDIR") or "/tmp")]
    return [f for f in named if f != Path("/")]


def _unescape(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), text)
