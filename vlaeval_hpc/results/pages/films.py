"""Links to the videos of episodes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vlaeval_hpc.run.directory import RunDirectory


class Films:
    """The videos of a run that there are, as seen from a page; a folder is listed once."""

    def __init__(self, run: RunDirectory, target: Path) -> None:
        self._root = run.root
        self._target = target
        self._there: dict[Path, set[str]] = {}

    def link(self, episode: Mapping[str, Any]) -> str:
        """Where an episode's video is; empty where none was recorded, or it is gone."""
        if not episode.get("video"):
            return ""
        path = self._root / str(episode["video"])
        if path.parent not in self._there:
            try:
                self._there[path.parent] = set(os.listdir(path.parent))
            except OSError:
                self._there[path.parent] = set()
        return relative(str(path), self._target) if path.name in self._there[path.parent] else ""


def relative(path: str | None, target: Path) -> str:
    """A file as a page at `target` links it; empty for none."""
    return quote(os.path.relpath(path, target.parent)) if path else ""
