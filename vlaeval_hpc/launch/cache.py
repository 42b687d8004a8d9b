"""The user's cache folder: environments, images, checkpoints, descriptions and what is known of results."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from vlaeval_hpc.errors import ConfigurationError


def cache_folder() -> Path:
    """VLAEVAL_HPC_CACHE, else vlaeval_hpc in XDG_CACHE_HOME or ~/.cache; made if it is not there."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("VLAEVAL_HPC_CACHE") or Path(home) / "vlaeval_hpc").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cache folder {folder}: {error.strerror}: set VLAEVAL_HPC_CACHE") from error
    return folder


def digest(value: Any) -> str:
    """A short name for a JSON value: equal values, equal names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
