"""Files that are whole or absent: temp file in the same folder, fsync, rename."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Union

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError

SCHEMA = 1
"""Version of every file in a run directory; a reader takes its own and every older one."""

FILES_AWAY = 600.0
"""Seconds that whoever works waits for a file system that refuses to write: a disk may be full for a while."""


def write_atomic(path: Path, data: Union[str, bytes], mode: int = 0o644) -> None:
    """Replace `path` by `data`, all or nothing. Raises InfrastructureError where the file system refuses."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix="." + path.name + ".", suffix=".tmp", dir=str(path.parent))
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode & ~_umask() if mode & 0o077 else mode)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, str(path))
        temporary = ""
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary:
            try:
                os.unlink(temporary)
            except OSError:
                pass


def write_json(path: Path, value: Any, mode: int = 0o644, indent: Union[int, None] = 2) -> None:
    """Replace `path` by `value` as JSON. Raises ValueError for NaN, which JSON does not have."""
    write_atomic(path, json.dumps(value, indent=indent, allow_nan=False) + "\n", mode)


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises ConfigurationError, naming the file, where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: not readable as JSON: {error}") from error


def check_schema(path: Path, found: Any) -> None:
    """Raises ConfigurationError where a newer project wrote the file."""
    if not isinstance(found, int) or found > SCHEMA:
        raise ConfigurationError(f"{path}: schema {found!r}, this version reads up to {SCHEMA}: upgrade vlaeval_hpc")


def _umask() -> int:
    # The umask can only be read by setting it; mkstemp's 0600 must become what open() would have given.
    current = os.umask(0o077)
    os.umask(current)
    return current
