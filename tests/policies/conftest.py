"""Servers of other projects' protocols, as processes that end with their test, and those of tests/serving."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving.conftest import serving, starting
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.launch.environment import interpreter

__all__ = ["serving", "starting"]

PEERS = Path(__file__).parent / "peers"
TORCH_CPU = Path(__file__).parent / "torch_cpu"
LEROBOT = [
    "lerobot==0.4.4",
    "torch==2.13.0+cpu",
    "transformers==4.57.6",
    "num2words==0.5.14",
    "pyserial==3.5",
    "timm==1.0.22",
]


@contextmanager
def torch_cpu() -> Iterator[None]:
    """While it is open, environments are made with torch for the CPU."""
    wheels = os.environ.get("PIP_FIND_LINKS")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_OVERRIDE", str(TORCH_CPU / "overrides.txt"))
        patch.setenv(*("UV_FIND_LINKS", wheels) if wheels else ("UV_TORCH_BACKEND", "cpu"))
        yield


@pytest.fixture(scope="session")
def lerobot_python() -> Path:
    """LeRobot, transformers and torch for the CPU."""
    with torch_cpu():
        return interpreter(EnvironmentConfig(kind="venv", requirements=LEROBOT), "lerobot", print)


class Peer:
    """Starts `peers/<script> ARGUMENTS`; called, it gives the port that the script prints."""

    def __init__(self, python: Path) -> None:
        self._python = python
        self._started: list[subprocess.Popen[str]] = []

    def __call__(self, script: str, *arguments: str) -> int:
        command = [str(self._python), str(PEERS / script), *arguments]
        self._started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stream = self._started[-1].stdout
        assert stream is not None
        return int(stream.readline())

    def stop(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._started.clear()


@pytest.fixture
def peer(outside_python: Path) -> Iterator[Peer]:
    made = Peer(outside_python)
    yield made
    made.stop()
