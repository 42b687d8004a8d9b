"""A shard between two replicas, one of which is told to leave: no episode is begun twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command
from tests.toys import TOY, journal, merged, outcomes
from vlaeval_hpc.run.rendezvous import Rendezvous

SLOW = ("run=a", "cluster.shards=1", "benchmark.params.pace=0.1")
PATIENCE = 60.0
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vlaeval_hpc", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (tmp_path / f"{arguments[0]}-{len(started)}.log").open("w") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def published(folder: Path, replica: int) -> Rendezvous | None:
    return Rendezvous.read(folder / "results" / "a" / "server" / f"rendezvous-{replica}.json")


def connected(folder: Path, replica: int) -> bool:
    """Whether the shard's simulator has a connection to this replica."""
    found = published(folder, replica)
    if found is None:
        return False
    port = f":{int(found.urls[0].rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(port) and row[3] == "01" for row in rows)


def test_the_running_episode_ends_where_it_began(vlaeval: Command, starting: Start, tmp_path: Path) -> None:
    assert vlaeval(*TOY, "run=b").returncode == 0
    assert vlaeval(*TOY, *SLOW, "submit=false").returncode == 0
    servers = [starting("serve", "results/a", "--replica", str(i)) for i in range(2)]
    wait_for(lambda: published(tmp_path, 0) and published(tmp_path, 1))
    shard = starting("shard", "results/a", "--shard-id", "0")
    wait_for(lambda: journal(tmp_path, "a") and connected(tmp_path, 0))
    leaving = published(tmp_path, 0)
    assert leaving is not None
    os.kill(leaving.pid, signal.SIGUSR2)
    assert shard.wait(PATIENCE) == 0
    # The first left when its last episode was over, the second when all was.
    assert [server.wait(PATIENCE) for server in servers] == [0, 0]
    assert [one.draining for i in range(2) if (one := published(tmp_path, i))] == [True, False]
    assert vlaeval("merge", "results/a").returncode == 0
    assert outcomes(merged(tmp_path, "a")) == outcomes(merged(tmp_path, "b"))
    log = "".join(p.read_text() for p in tmp_path.glob("shard-*.log"))
    assert "Traceback" not in log and "again when a server is there" not in log
    assert len(journal(tmp_path, "a")) == 6
