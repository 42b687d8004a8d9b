"""The results root that a user named, and where what is known of it is kept."""

from __future__ import annotations

from pathlib import Path

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.cache import cache_folder, digest


def results_root(text: str) -> Path:
    """A folder. Raises ConfigurationError where it is none."""
    root = Path(text)
    if not root.is_dir():
        raise ConfigurationError(f"{text}: {'not a folder' if root.exists() else 'no such folder'}")
    return root


def index_folder(root: Path) -> Path:
    """The folder in the user's cache for the index of a root."""
    return cache_folder() / "results" / digest(str(root.resolve()))
