"""scripts/fuzz_server.py, for a moment."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT
from tests.serving.conftest import Start
from tests.serving.servers import TOKEN


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz_server.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_few_seconds_do_no_harm() -> None:
    done = fuzz("--seconds", "4", "--seed", "11")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers to the good session" in done.stdout


def test_a_server_that_runs_already(serving: Start) -> None:
    server = serving()
    where = ("--url", f"{server.url}/?token={TOKEN}", "--pid", str(server.process.pid))
    done = fuzz("--seconds", "2", *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.process.poll() is None
    done = fuzz("--seconds", "1", *where, "--growth", "-1")
    assert done.returncode == 1
    assert "memory grew by more than" in done.stdout


def test_only_servers_on_this_machine_are_attacked() -> None:
    for url in ("ws://192.0.2.1:80", "ws://127.0.0.1"):
        done = fuzz("--seconds", "1", "--url", url)
        assert done.returncode == 1
        assert "only a server on this machine" in done.stderr
