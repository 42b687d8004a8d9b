"""The fuzz script, for a moment; anyone can run it for longer."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_a_few_seconds_of_garbage() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz_server.py"), "--seconds", "4", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers to the good session" in done.stdout
