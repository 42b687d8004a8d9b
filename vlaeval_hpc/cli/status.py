"""`status RUN` and `status SWEEP`."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.results.status import RunStatus, read_status
from vlaeval_hpc.results.sweep import SweepFolder, is_sweep, read_sweep
from vlaeval_hpc.run.directory import RunDirectory

if TYPE_CHECKING:
    from rich.console import Console

LOOK_EVERY = 2.0
ASK_EVERY = 10.0  # seconds between two questions to Slurm while somebody watches


def main(argv: list[str]) -> int:
    """Exit status 0: telling succeeded, whatever it tells."""
    parser = Parser("status")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-w", "--watch", action="store_true")
    arguments = parser.parse_args(argv)
    if is_sweep(arguments.run):
        return _sweep(SweepFolder(arguments.run), arguments.json, arguments.watch)
    run = run_directory(arguments.run)
    if arguments.json:
        jobs, note = _jobs(run)
        print(json.dumps({**asdict(read_status(run)), "jobs": jobs, "jobs_note": note}))
        return 0
    from rich.console import Console

    console = Console(highlight=False)
    if arguments.watch:
        _watch(console, run)
    else:
        _show(console, read_status(run), *_jobs(run))
    return 0


def _watch(console: Console, run: RunDirectory) -> None:
    """Show it again and again, until nothing is queued or running any more; a plain block now and then in a log."""
    asked = 0.0
    jobs: list[dict[str, Any]] = []
    note = ""
    while True:
        if time.monotonic() - asked > ASK_EVERY or not asked:
            jobs, note = _jobs(run)
            asked = time.monotonic()
        status = read_status(run)
        if console.is_terminal:
            console.clear()
        _show(console, status, jobs, note)
        if not status.states["running"] and not any(job["states"] for job in jobs):
            return
        time.sleep(LOOK_EVERY if console.is_terminal else ASK_EVERY)


def _jobs(run: RunDirectory) -> tuple[list[dict[str, Any]], str]:
    """The jobs of the latest submission with the number of their tasks in each state, by one call; and what hindered.

    A job without states has ended.
    """
    if not run.jobs.exists():
        return [], ""
    from vlaeval_hpc.launch import slurm
    from vlaeval_hpc.launch.jobs import read_submissions

    submission = read_submissions(run)[-1]
    try:
        states, note = slurm.states(submission.ids()), ""
    except (ConfigurationError, InfrastructureError) as error:
        states, note = {}, f"{error}: this is from files alone"
    jobs = []
    for job in submission.jobs:
        found = Counter(states[i] for i in job.task_ids if i in states)
        jobs.append({"kind": job.kind, "id": job.id, "tasks": len(job.task_ids), "states": dict(found)})
    return jobs, note


def _sweep(folder: SweepFolder, as_json: bool, watch: bool) -> int:
    """A sweep's table as it is now; watched, until no job of it is left."""
    while True:
        found = read_sweep(folder)
        active, note = _active(folder)
        if as_json:
            print(json.dumps({**found, "jobs": active, "jobs_note": note}))
            return 0
        from rich.console import Console

        from vlaeval_hpc.results.grid import print_lines
        from vlaeval_hpc.results.sweeptable import print_sweep

        console = Console(highlight=False)
        if watch and console.is_terminal:
            console.clear()
        print_sweep(console, found)
        if active:
            told = [f"{count} {state.lower()}" for state, count in sorted(Counter(active.values()).items())]
            print_lines(console, [f"jobs: {', '.join(told)}"])
        if note:
            print_lines(console, [f"note: {note}"])
        if not watch or not active:
            return 0
        time.sleep(ASK_EVERY)


def _active(folder: SweepFolder) -> tuple[dict[str, str], str]:
    """State of every job of the sweep and its points that is queued or running, by one call; and what hindered."""
    runs = [RunDirectory(folder.root), *folder.runs()]
    if not any(run.jobs.exists() for run in runs):
        return {}, ""
    from vlaeval_hpc.launch import slurm
    from vlaeval_hpc.launch.jobs import read_submissions

    try:
        return slurm.states(i for run in runs for s in read_submissions(run)[-1:] for i in s.ids()), ""
    except (ConfigurationError, InfrastructureError) as error:
        return {}, f"{error}: this is from files alone"


def _show(console: Console, status: RunStatus, jobs: list[dict[str, Any]], note: str) -> None:
    from vlaeval_hpc.results.grid import print_lines
    from vlaeval_hpc.results.statustable import print_status

    print_status(console, status)
    for job in jobs:
        ended = job["tasks"] - sum(job["states"].values())
        told = [f"{count} {state.lower()}" for state, count in sorted(job["states"].items())]
        told += [f"{ended} ended"] if ended and not note else []
        print_lines(console, [f"job {job['id']} {job['kind']}: {', '.join(told) or 'unknown'}"])
    if note:
        print_lines(console, [f"note: {note}"])
