"""What tests share: interpreters of real simulators and of the peer, made once and kept in the user's cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vlaeval_hpc.config.composition import conf_folder
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.launch.environment import interpreter

TESTS = Path(__file__).parent
ROOT = TESTS.parent
os.environ["TESTS"] = str(TESTS)  # tests/conf says by it where the doubles are

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def benchmark_environment(name: str) -> EnvironmentConfig:
    """The environment that conf/benchmark/<name>.yaml names."""
    section = OmegaConf.load(conf_folder() / "benchmark" / f"{name}.yaml")
    merged = OmegaConf.merge(OmegaConf.structured(EnvironmentConfig), section.environment)
    found = OmegaConf.to_object(merged)
    assert isinstance(found, EnvironmentConfig)
    return found


def with_packages(environment: EnvironmentConfig, *packages: str) -> EnvironmentConfig:
    return replace(environment, kind="venv", requirements=[*environment.requirements, *packages])


@pytest.fixture(scope="session")
def metaworld_python() -> Path:
    return interpreter(benchmark_environment("metaworld"), "metaworld", print)


@pytest.fixture(scope="session")
def libero_python() -> Path:
    return interpreter(benchmark_environment("libero"), "libero", print)


@pytest.fixture(scope="session")
def libero_vla_eval_python() -> Path:
    """LIBERO as we pin it, and the peer, in one environment."""
    environment = with_packages(benchmark_environment("libero"), "vla-eval==0.8.0")
    return interpreter(environment, "libero-vla-eval", print)


@pytest.fixture(scope="session")
def vla_eval_python() -> Path:
    """The peer."""
    return interpreter(with_packages(EnvironmentConfig(), "vla-eval==0.8.0"), "vla-eval", print)


@pytest.fixture(scope="session")
def vla_eval_02_python() -> Path:
    """The peer whose result files we write and read."""
    return interpreter(with_packages(EnvironmentConfig(), "vla-eval==0.2.0"), "vla-eval-0.2", print)


@pytest.fixture(scope="session")
def outside_python() -> Path:
    """What servers of other projects speak with: openpi's client, json_numpy, ZeroMQ."""
    # openpi-client needs typing_extensions, and does not say so.
    packages = ("openpi-client==0.1.2", "typing_extensions", "numpy<2", "json-numpy==2.1.1", "pyzmq==27.1.0")
    return interpreter(with_packages(EnvironmentConfig(), *packages), "outside", print)


@pytest.fixture
def vlaeval(tmp_path: Path) -> Command:
    """Runs `python -m vlaeval_hpc ARGUMENTS` in a folder of its own, with the doubles to choose from."""

    def run(*arguments: str, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vlaeval_hpc", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
