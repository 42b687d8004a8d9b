"""A simulator is made while the server loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command
from tests.toys import TOY, merged, outcomes

PATIENCE = 60.0


@pytest.mark.parametrize("fault", ["", "start"])
def test_a_simulator_is_ready_before_its_server(vlaeval: Command, tmp_path: Path, fault: str) -> None:
    """Also where it fails to start then, once: that is no episode's failure."""
    (tmp_path / "once").mkdir()
    faults = ["benchmark.params.faults={task-0/0:start}", f"benchmark.params.once={tmp_path}/once"] if fault else []
    assert vlaeval(*TOY, "run=a", "cluster.shards=1", "submit=false", *faults).returncode == 0
    run = tmp_path / "results" / "a"
    assert json.loads((run / "plan.json").read_text())["benchmark"]["expected"] == ["state"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = tmp_path / "log"
    with log.open("w") as stream:
        line = [sys.executable, "-m", "vlaeval_hpc", "shard", str(run), "--shard-id", "0"]
        shard = subprocess.Popen(line, env=environment, stdout=stream, stderr=stream)
    deadline = time.monotonic() + PATIENCE
    word = "the toy does not start" if fault else "the simulator is ready"
    while word not in log.read_text():
        assert time.monotonic() < deadline and shard.poll() is None, log.read_text()
        time.sleep(0.05)
    assert not list((run / "server").iterdir())  # nobody to ask yet
    server = subprocess.Popen([sys.executable, "-m", "vlaeval_hpc", "serve", str(run)], env=environment)
    try:
        assert shard.wait(PATIENCE) == 0, log.read_text()
    finally:
        server.terminate()
        server.wait()
        shard.kill()
        shard.wait()
    assert vlaeval("merge", str(run)).returncode == 0
    prepared = outcomes(merged(tmp_path, "a"))
    assert len(prepared) == 6 and not merged(tmp_path, "a")["num_errors"]
    lines = (run / "shards" / "toy_shard0of1.jsonl").read_text().splitlines()
    assert len(lines) == 6  # none was tried again
