"""The peer: vla-eval 0.8.0, in an environment of its own, made once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.launch.environment import interpreter


def peer_python() -> Path:
    """Its interpreter; tests/peer use the same."""
    return interpreter(EnvironmentConfig(kind="venv", requirements=["vla-eval==0.8.0"]), "vla-eval", print)
