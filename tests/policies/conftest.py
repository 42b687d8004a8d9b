"""Servers of other projects' protocols, as processes that end with their test, and those of tests/serving."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.conftest import serving, starting

__all__ = ["serving", "starting"]

PEERS = Path(__file__).parent / "peers"


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
