"""Out of memory: that kind of job gets more, twice as much at a time."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from vlaeval_hpc.launch.decisions import decisions
from vlaeval_hpc.run.directory import RunDirectory

STATE = "OUT_OF_MEMORY"  # where cgroups confine jobs; elsewhere the job fails, and its output tells why
TOLD = re.compile(rb"exceeded (job |step )?memory limit|oom.?kill event", re.IGNORECASE)
TAIL = 1 << 16  # bytes of a job's output that are looked at
OPTIONS = ("mem", "mem-per-cpu", "mem-per-gpu")
FACTOR = 2
UNITS = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}


def ran_out(output: Path, task: str, state: str | None) -> bool:
    """Whether a task of a job ended for want of memory; `output` is the folder of what jobs print."""
    if state in (None, "COMPLETED"):
        return False
    if state == STATE:
        return True
    for path in output.glob(f"{task}_*log.out"):
        with contextlib.suppress(OSError), path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL))
            if TOLD.search(stream.read()):
                return True
    return False


def more(options: dict[str, Any]) -> tuple[str, str] | None:
    """The option of sbatch that says how much memory a job gets, and twice its value; None where none does."""
    for name in OPTIONS:
        found = re.fullmatch(r"(\d+)([KMGT]?)B?", str(options.get(name, "")).upper())
        if found and int(found[1]):
            return name, f"{FACTOR * int(found[1])}{found[2]}"
    return None


def raised(run: RunDirectory, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """sbatch's options of a kind of job, with what was decided to give it; never less than the config says."""
    given = dict(options)
    for decision in raises(run, kind):
        name, value = str(decision.get("option")), str(decision.get("value"))
        if name in given and megabytes(value) > megabytes(str(given[name])):
            given[name] = value
    return given


def raises(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    """What was decided of a kind of job until now."""
    return [d for d in decisions(run) if d.get("memory_of") == kind]


def megabytes(value: str) -> float:
    """Of what sbatch takes; 0 where it is none."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", value.upper())
    return int(found[1]) * UNITS[found[2]] if found else 0.0
