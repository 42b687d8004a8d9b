"""What Slurm is asked and told, by its own commands: one call for many ids, and patience where none answers."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError, VlaevalError
from vlaeval_hpc.run.job import job_name

TIMEOUT = 60.0
NO_SUCH_NODES = "node configuration is not available"
NOT_STARTED = "launch failed requeued held"  # squeue's reason
ENDED = (
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "DEADLINE",
    "BOOT_FAIL",
    "PREEMPTED",
)


def states(ids: Iterable[str]) -> dict[str, str]:
    """State of each task, array tasks one by one, of those jobs that are still queued or running.

    Raises InfrastructureError where slurmctld does not answer: then nothing is known.
    """
    wanted = ",".join(ids)
    if not wanted:
        return {}
    done = _run(["squeue", "-h", "-r", "-a", "-j", wanted, "-o", "%i %T"])
    if done.returncode and "Invalid job id" not in done.stderr:
        raise InfrastructureError(f"squeue: {_reason(done)}")
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())
    return {task: state for task, state in found.items() if state not in ENDED}


def ended(ids: Iterable[str]) -> dict[str, str]:
    """How each task of these jobs ended that Slurm remembers: slurmctld does for some minutes, the accounting, where
    there is one, for years, but learns it later. Raises InfrastructureError where neither answers."""
    wanted = ",".join(ids)
    if not wanted:
        return {}
    questions = (
        ["sacct", "-X", "-n", "-P", "-j", wanted, "-o", "JobID,State"],
        ["squeue", "-h", "-r", "-a", "-t", "all", "-j", wanted, "-o", "%i|%T"],
    )
    found: dict[str, str] = {}
    complaints = []
    for question in questions:
        try:
            done = _run(question)
        except VlaevalError as error:
            complaints.append(str(error))
            continue
        if done.returncode and "Invalid job id" not in done.stderr:
            complaints.append(f"{question[0]}: {_reason(done)}")
        for line in done.stdout.splitlines():
            task, _, state = line.partition("|")
            found[task] = state.split()[0] if state else ""  # "CANCELLED by 1000"
    if len(complaints) == len(questions):
        raise InfrastructureError("; ".join(complaints))
    return {task: state for task, state in found.items() if state in ENDED}


def not_started(ids: Iterable[str]) -> list[str]:
    """Those of these jobs that Slurm holds in the queue since their node did not start them: as where an earlier start
    of the same job had not quite ended. It takes none of them up again by itself, and one that is released may fail
    there again and drain the node. Raises InfrastructureError."""
    wanted = ",".join(ids)
    done = _run(["squeue", "-h", "-r", "-a", "-t", "PENDING", "-j", wanted, "-o", "%i|%r"]) if wanted else None
    lines = done.stdout.splitlines() if done else []
    return [task for task, _, reason in (line.partition("|") for line in lines) if reason == NOT_STARTED]


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs, in this order; those that have ended are left alone. Raises InfrastructureError."""
    for one in ids:
        done = _run(["scancel", one])
        if done.returncode and "Invalid job id" not in done.stderr:
            raise InfrastructureError(f"scancel {one}: {_reason(done)}")


def cancel_pending(ids: Sequence[str]) -> None:
    """Cancel what of these jobs and arrays has not begun. Raises InfrastructureError."""
    done = _run(["scancel", "--state=PENDING", *ids])
    if done.returncode and "Invalid job id" not in done.stderr:
        raise InfrastructureError(f"scancel: {_reason(done)}")


def depend(one: str, dependency: str) -> None:
    """Give a job that waits another dependency. Raises InfrastructureError."""
    done = _run(["scontrol", "update", f"JobId={one}", f"Dependency={dependency}"])
    if done.returncode:
        raise InfrastructureError(f"scontrol update {one}: {_reason(done)}")


def wait_for_another(one: str, another: str) -> None:
    """Let the user's jobs that wait for the end of job `one` wait for that of `another` too. Raises
    InfrastructureError."""
    done = _run(["squeue", "-h", "--me", "-t", "PENDING", "-o", "%i|%E"])
    for line in done.stdout.splitlines():
        job, _, told = line.partition("|")
        waits = [re.sub(r"\(\w+\)", "", part) for part in told.split(",")]  # afterany:12(unfulfilled)
        if any(re.fullmatch(rf"after\w+:{re.escape(one)}(_\*)?", part) for part in waits):
            depend(job, ",".join([*waits, f"afterany:{another}"]))


def exclude_pending(ids: Sequence[str], nodes: str) -> None:
    """Keep what of these jobs and arrays has not begun off these nodes. Raises InfrastructureError."""
    for one in ids:
        done = _run(["scontrol", "update", f"JobId={one}", f"ExcNodeList={nodes}"])
        # Of an array those tasks are changed that wait; Slurm complains of the others.
        if done.returncode and not re.search(
            r"Invalid job id|no longer pending|already (finished|running)", done.stderr
        ):
            raise InfrastructureError(f"scontrol update {one}: {_reason(done)}")


@contextlib.contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Without the variables of the job that we may be in, an `salloc` or a shard: sbatch would hand them down, and the
    new job take itself for a part of ours."""
    ours = {k: v for k, v in os.environ.items() if k.startswith(("SLURM_", "SUBMITIT_")) and k != "SLURM_CONF"}
    for name in ours:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(ours)


def requeue_this_task() -> None:
    """Give this job, or this task of an array, back to the queue; it is ended by that. Raises InfrastructureError."""
    name = job_name() or ""
    done = _run(["scontrol", "requeue", name])
    if done.returncode:
        raise InfrastructureError(f"scontrol requeue {name}: {_reason(done)}")


def this_job_goes_on() -> bool:
    """Whether Slurm takes the job or task that we are in for running still: not cancelled, requeued or out of time."""
    done = _run(["squeue", "-h", "-j", job_name() or "", "-o", "%T"])
    return done.returncode == 0 and done.stdout.strip() == "RUNNING"


@functools.cache
def max_array_size() -> int:
    """MaxArraySize: an array's highest index is one less."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", scontrol_config(), re.MULTILINE)
    return int(found[1]) if found else 1001  # Slurm's own default


@functools.cache
def scontrol_config() -> str:
    """`scontrol show config`. Raises ConfigurationError where there is no Slurm here or it does not answer."""
    done = _run(["scontrol", "show", "config"])
    if done.returncode:
        raise ConfigurationError(f"cluster: Slurm does not answer: {_reason(done)}")
    return done.stdout


@functools.cache
def check_script(script: str) -> None:
    """Ask slurmctld whether it would take a job. Raises ConfigurationError, with what it says against it."""
    done = _run(["sbatch", "--test-only"], script)
    if NO_SUCH_NODES in done.stderr:
        # So it says too where nodes are down for now. A job is taken all the same, and waits for them; one that no node
        # could ever run is refused, unless it is held.
        done = _run(["sbatch", "--parsable", "--begin=now+1day"], script)
        if not done.returncode:
            cancel([done.stdout.strip().partition(";")[0]])
    if done.returncode:
        raise ConfigurationError(f"cluster: sbatch: {_reason(done)}")


def _run(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT)
    except FileNotFoundError:
        raise ConfigurationError(f"cluster: no {command[0]} here: is this a Slurm login node?") from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"{command[0]}: no answer in {TIMEOUT:.0f} s") from None


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """What a Slurm command complains of, in one line without its own name."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    told = [re.sub(r"^\w+: (error: )?", "", line) for line in lines]
    return "; ".join(dict.fromkeys(told)) or f"exit status {done.returncode}"
