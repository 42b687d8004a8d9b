"""The clock that stamps files: a file server's, by which the age of a file is the same whichever node looks, and
however wrong the clock of that node is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Optional


def age(path: Path) -> Optional[float]:
    """Seconds since `path` was written or touched; None where it cannot be told. Raises FileNotFoundError."""
    try:
        touched = path.stat().st_mtime
        # A name of its own for every look: two threads, or two containers that give their processes the same number,
        # must not take away each other's probe.
        handle, probe = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".now", dir=str(path.parent))
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        return os.fstat(handle).st_mtime - touched
    finally:
        os.close(handle)
        try:
            os.unlink(probe)
        except OSError:
            pass
