"""The pairs of conf/pairing with LIBERO itself, as a user starts them; the servers check what reaches them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.policies.conftest import Peer
from tests.toys import merged, outcomes

PART = ("benchmark=libero", "benchmark.max_tasks=1", "benchmark.episodes_per_task=1", "benchmark.max_steps=9", "run=a")


@pytest.mark.parametrize(
    ("model", "scheme", "script"),
    [
        ("openpi", "ws", ("openpi_server.py",)),
        ("act", "http", ("act_server.py", "oft")),
        ("gr00t", "tcp", ("gr00t_server.py", "n1.6")),
    ],
)
def test_a_server_that_runs_already_is_evaluated(
    vlaeval: Command,
    libero_python: Path,
    peer: Peer,
    tmp_path: Path,
    model: str,
    scheme: str,
    script: tuple[str, ...],
) -> None:
    url = f"{scheme}://127.0.0.1:{peer(*script)}"
    done = vlaeval(f"model={model}", f"model.params.url={url}", *PART, timeout=300, GR00T_API_TOKEN="the-token")
    assert done.returncode == 0, done.stdout + done.stderr
    ((_, steps, failure),) = outcomes(merged(tmp_path, "a")).values()
    assert (steps, failure) == (9, None)


def test_a_server_that_is_not_there_ends_the_run_and_is_named(vlaeval: Command, tmp_path: Path) -> None:
    done = vlaeval("model=openpi", "model.params.url=ws://127.0.0.1:9", *PART, "server.wait_timeout=5")
    assert done.returncode != 0
    assert "the openpi server ws://127.0.0.1:9 is lost: ConnectionRefusedError" in done.stdout + done.stderr
