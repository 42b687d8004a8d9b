"""A shard trusts a rendezvous file only after /health answered with its nonce, and tells its token to nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Command
from tests.toys import TOY, merged, outcomes

asked: list[tuple[str, str | None]] = []


class Stranger(BaseHTTPRequestHandler):
    """Whoever came to listen where an earlier job's server was."""

    def do_GET(self) -> None:
        asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ok", "nonce": "the stranger's"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"ws://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "vlaeval_hpc", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def leave(where: Path, replica: int, **changes: Any) -> None:
    """A file of an earlier server of the run."""
    plan = json.loads((where / "plan.json").read_text())
    found = {
        "run": plan["run"],
        "replica": replica,
        "urls": ["ws://127.0.0.1:9"],
        "token": "an earlier job's",
        "nonce": "an earlier job's",
        "host": "node7",
        "pid": 1,
    }
    (where / "server" / f"rendezvous-{replica}.json").write_text(json.dumps({**found, **changes}))


def test_stale_foreign_and_torn_files(vlaeval: Command, tmp_path: Path, stranger: str) -> None:
    assert vlaeval(*TOY, "run=a").returncode == 0
    assert vlaeval(*TOY, "run=b", "cluster.shards=1", "submit=false").returncode == 0
    run = tmp_path / "results" / "b"
    leave(run, 0)
    leave(run, 1, urls=[stranger])
    leave(run, 2, run="another run's", urls=[stranger], nonce="the stranger's")
    leave(run, 3, schema=99, urls=[stranger], nonce="the stranger's")
    (run / "server" / "rendezvous-4.json").write_text('{"run": "torn')
    shard = start(tmp_path, "shard", "results/b", "--shard-id", "0")
    while not asked:
        assert shard.poll() is None
    server = start(tmp_path, "serve", "results/b", "--replica", "5")
    try:
        assert shard.wait(60) == 0
        assert server.wait(30) == 0  # it saw that all is finished
    finally:
        for process in (shard, server):
            process.send_signal(signal.SIGTERM)
            process.communicate()
    assert vlaeval("merge", "results/b").returncode == 0
    assert outcomes(merged(tmp_path, "b")) == outcomes(merged(tmp_path, "a"))
    assert set(asked) == {("/health", None)}
