"""Servers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.servers import Server

Start = Callable[..., Server]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Start]:
    """Starts a server that may still be loading."""
    started: list[Server] = []

    def start(**model: Any) -> Server:
        started.append(Server(tmp_path / f"server-{len(started)}.log", **model))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def serving(starting: Start) -> Start:
    """Starts a server and waits until it can answer."""
    return lambda **model: starting(**model).wait_ready()
