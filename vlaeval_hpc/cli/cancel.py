"""`cancel RUN` or `cancel SWEEP`: all its jobs."""

from __future__ import annotations

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch import graph
from vlaeval_hpc.launch.jobs import read_submissions
from vlaeval_hpc.results.sweep import SweepFolder, is_sweep
from vlaeval_hpc.run.directory import RunDirectory


def main(argv: list[str]) -> int:
    """Exit status 0 when no job of the run or sweep is left; what was finished stays finished."""
    parser = Parser("cancel")
    parser.add_argument("run", metavar="RUN")
    named = parser.parse_args(argv).run
    # A sweep's own job waits for the others.
    runs = [RunDirectory(named), *SweepFolder(named).runs()] if is_sweep(named) else [run_directory(named)]
    submissions = [s for run in runs for s in read_submissions(run)]
    if not submissions:
        raise ConfigurationError(f"{named}: was never submitted: it has no jobs.json")
    for run in runs:
        if run.server.is_dir():
            run.stop.touch()
    cancelled = graph.cancel(submissions)
    print(f"cancelled {', '.join(cancelled)}" if cancelled else "none of its jobs was queued or running")
    return 0
