from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from vlaeval_hpc.run.lifeline import SUPERVISOR, variable

CHILD = """
import time
from vlaeval_hpc.run import lifeline
lifeline.hold()
print(lifeline.supervisor(), flush=True)
time.sleep(30)
"""


def child(variables: dict[str, str]) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if k != SUPERVISOR}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], env={**kept, **variables}, stdin=pipe, stdout=pipe, text=True
    )


def test_who_holds_the_other_end_goes_and_sigterm_comes() -> None:
    running = child(variable({"pid": 7}))
    assert running.stdout is not None and running.stdin is not None
    assert "'pid': 7" in running.stdout.readline()
    running.stdin.close()
    assert running.wait(10) == -signal.SIGTERM


def test_without_a_supervisor_standard_input_means_nothing() -> None:
    running = child({})
    assert running.stdout is not None and running.stdin is not None
    assert running.stdout.readline() == "None\n"
    running.stdin.close()
    try:
        running.wait(0.5)
        raise AssertionError("it left")
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def test_the_variable_says_when() -> None:
    assert json.loads(variable({"host": "h"})[SUPERVISOR])["since"] > 1e9
