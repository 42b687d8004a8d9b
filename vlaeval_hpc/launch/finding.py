"""What a check of doctor found, and how it asks a command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"
TIMEOUT = 8.0  # seconds for one command


class Finding(NamedTuple):
    """What a check found. `advice` is what to do about it; empty where there is nothing to do."""

    name: str
    state: str
    found: str
    advice: str = ""


Check = Callable[[], Iterable[Finding]]


def ask(*command: str) -> subprocess.CompletedProcess[str]:
    """What a command answers. Raises FileNotFoundError, and subprocess.TimeoutExpired after TIMEOUT."""
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, stdin=subprocess.DEVNULL
    )


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """What a command complained of, in one line."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {done.returncode}"
