"""What is in a checkpoint's files, and whether it still is what it was when a run was planned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vlaeval_hpc.errors import ConfigurationError

Content = Sequence[str | int]
"""SHA-256, size, and time of the last change in nanoseconds."""


def contents(files: Iterable[Path]) -> dict[str, Content]:
    """Of each file; the hash takes seconds a gigabyte."""
    return {str(path): [_sha256(path), *_state(path)] for path in files}


def check_unchanged(files: Iterable[Path], planned: Mapping[str, Content]) -> None:
    """Raises ConfigurationError where the files do not hold what they held.

    Size and time tell, and where these differ, the content: a copy may lie elsewhere, and be younger. A job may wait
    in a queue for hours, and whoever trains may overwrite the checkpoint meanwhile: its outcomes must not pass for
    those of the one that was planned.
    """
    known = {content[0] for content in planned.values()}
    for path in files:
        try:
            same = list(planned.get(str(path), ()))[1:] == _state(path) or _sha256(path) in known
        except OSError as error:
            raise ConfigurationError(
                f"model.checkpoint: {path}: {error.strerror}: it was there when planned"
            ) from error
        if not same:
            raise ConfigurationError(f"model.checkpoint: {path} has changed since the run was planned: start it anew")


def _state(path: Path) -> list[int]:
    seen = path.stat()
    return [seen.st_size, seen.st_mtime_ns]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
