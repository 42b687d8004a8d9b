"""The peer: vla-eval 0.8.0, in an environment of its own, made once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from vlaeval_hpc.config.composition import conf_folder
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.launch.environment import interpreter


def peer_python() -> Path:
    """Its interpreter; tests/peer use the same."""
    return interpreter(EnvironmentConfig(kind="venv", requirements=["vla-eval==0.8.0"]), "vla-eval", print)


def libero_peer_python() -> Path:
    """One that has LIBERO too, as we pin it."""
    section = OmegaConf.load(conf_folder() / "benchmark" / "libero.yaml").environment
    requirements = [*section.requirements, "vla-eval==0.8.0"]
    return interpreter(EnvironmentConfig(kind="venv", requirements=requirements), "libero-vla-eval", print)
