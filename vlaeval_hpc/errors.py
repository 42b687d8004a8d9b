"""What can go wrong, by whose hands it can be mended.

An evaluation must fail fast on what a person got wrong and must not crash overnight on what a cluster does. So
every error that is expected has one of three kinds: configuration (say it before anything starts, and stop),
infrastructure (wait, retry, give the work back), policy or simulator (record it as the episode's outcome, go on).
Whatever is none of these is a bug, and shows its traceback.
"""

from __future__ import annotations

import difflib
from typing import Iterable


class VlaevalError(Exception):
    """An expected error: its text is one line for the user."""

    exit_code = 1


class ConfigurationError(VlaevalError):
    """What the user asked for cannot be done; nothing was started."""

    exit_code = 2


class InfrastructureError(VlaevalError):
    """A server, node or file system failed; the same work may succeed later or elsewhere."""

    exit_code = 75  # sysexits' EX_TEMPFAIL


class EpisodeError(VlaevalError):
    """An episode came to an end that is no outcome of its simulator.

    `reason` is a stable word for files and tables: simulator_start, simulator_step, simulator_hang,
    simulator_crash, policy_error, bad_action, server_timeout.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def unknown(kind: str, name: str, valid: Iterable[str]) -> ConfigurationError:
    """The error for a name that is not one of `valid`, with the nearest match."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    shown = ", ".join(names[:24]) + (f", ... ({len(names)} in all)" if len(names) > 24 else "")
    return ConfigurationError(f"unknown {kind} '{name}': {hint}valid: {shown or 'none'}")
