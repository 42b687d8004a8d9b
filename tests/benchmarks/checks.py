"""Checks that run where a simulator is: scripts in environments of their own, two processes at a time."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

OSMESA = {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa"}

Answer = Callable[[], Any]
Ask = Callable[..., Answer]


@contextlib.contextmanager
def checks(script: Path, variables: Mapping[str, str], drop: Sequence[str] = ()) -> Iterator[Ask]:
    """What asks by `ask(python, *words, **variables)`; what that gives waits for the answer, the last line as JSON."""
    kept = {key: value for key, value in os.environ.items() if key not in (*OSMESA, *drop)}

    def run(command: list[str], own: dict[str, str]) -> Any:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=540,
            env={**kept, "OMP_NUM_THREADS": "1", **variables, **own},
        )
        assert done.returncode == 0 and done.stdout, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield lambda python, *words, **own: pool.submit(run, [*map(str, (python, script, *words))], own).result
