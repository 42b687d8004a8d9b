"""Whose fault it is that an episode broke off."""

from __future__ import annotations

import traceback
from typing import Any

from vlaeval_hpc.errors import ConfigurationError, EpisodeError


class Blame:
    """Whatever a simulator raises inside is the episode's failure, under `reason`."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, (EpisodeError, ConfigurationError)):
            detail = "".join(traceback.format_exception(kind, error, error.__traceback__))
            raise EpisodeError(self._reason, detail[-4000:]) from error
