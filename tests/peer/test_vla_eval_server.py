"""Our shards evaluate a policy that a vla-eval 0.8.0 server holds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, TESTS, Command
from tests.toys import TOY, merged, outcomes

SCRIPT = Path(__file__).parent / "support" / "peer_server.py"
CONF = ("--config-dir", str(TESTS / "conf"), "benchmark=toy")

Outcomes = dict[tuple[str, int], tuple[Any, ...]]


@pytest.fixture
def peer(vla_eval_python: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a vla-eval server of the double pilot; its URL."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**arguments: Any) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (tmp_path / f"peer-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [vla_eval_python, SCRIPT, str(port), json.dumps(arguments)],
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}"},
                stdout=log,
                stderr=log,
            )
        started.append(process)
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                return f"ws://127.0.0.1:{port}"
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Outcomes]:
    """What the same policy reaches on our own server, by the length of its chunks."""
    known: dict[int, Outcomes] = {}

    def outcomes_of(chunk: int) -> Outcomes:
        if chunk not in known:
            folder = tmp_path_factory.mktemp("ours")
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "vlaeval_hpc", *TOY, f"model.params.chunk={chunk}", "run=ours"]
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
            known[chunk] = outcomes(merged(folder, "ours"))
        return known[chunk]

    return outcomes_of


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"specs": "none"},
        {"specs": "raw"},
        {"chunk": 3, "chunk_size": 3},
        {"chunk": 3},
        {"batch": 4, "chunk": 3, "chunk_size": 3, "specs": "raw"},
    ],
    ids=str,
)
def test_the_same_policy_has_the_same_outcomes(
    vlaeval: Command,
    peer: Callable[..., str],
    ours: Callable[[int], Outcomes],
    tmp_path: Path,
    arguments: dict[str, Any],
) -> None:
    done = vlaeval("run", *CONF, f"server.url={peer(**arguments)}", "run=peer")
    assert done.returncode == 0, done.stdout + done.stderr
    result = merged(tmp_path, "peer")
    assert outcomes(result) == ours(arguments.get("chunk", 1))
    assert len(outcomes(result)) == 6
    assert 0 < result["mean_success"] < 1


def test_an_episode_that_does_not_start_there_fails_although_its_server_goes_on_to_answer(
    vlaeval: Command, peer: Callable[..., str], ours: Callable[[int], Outcomes], tmp_path: Path
) -> None:
    vlaeval("run", *CONF, f"server.url={peer(fail='task-0')}", "run=peer")
    found = outcomes(merged(tmp_path, "peer"))
    assert {key: outcome[2] for key, outcome in found.items()} == {
        **{("task-0", e): "policy_error" for e in range(3)},
        **{("task-1", e): None for e in range(3)},
    }
    assert all(found["task-1", e] == ours(1)["task-1", e] for e in range(3))


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ("dims", "action 'push': produced with 3 dimensions, taken with 2"),
        ("format", "action 'push': produced as toy_pull, taken as toy_push"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_in_one_line(
    vlaeval: Command, peer: Callable[..., str], specs: str, words: str
) -> None:
    done = vlaeval("run", *CONF, f"server.url={peer(specs=specs)}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the server's policy does not fit toy")
    assert words in line
