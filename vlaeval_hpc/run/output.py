"""Printing that no full disk stops: what cannot be written to the log is lost, and nothing else."""

from __future__ import annotations

import io
import sys
from typing import Any


class _Lossy(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def print_what_fits() -> None:
    """From now on print never raises OSError; to be called once, before anybody keeps sys.stdout or sys.stderr."""
    for name, handle in (("stdout", 1), ("stderr", 2)):
        raw = io.BufferedWriter(_Lossy(handle, "wb", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True))
