"""`cancel RUN`: all jobs of a run."""

from __future__ import annotations

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch import graph
from vlaeval_hpc.launch.jobs import read_submissions


def main(argv: list[str]) -> int:
    """Exit status 0 when no job of the run is left; what was finished stays finished."""
    parser = Parser("cancel")
    parser.add_argument("run", metavar="RUN")
    run = run_directory(parser.parse_args(argv).run)
    submissions = read_submissions(run)
    if not submissions:
        raise ConfigurationError(f"{run.root}: was never submitted: it has no jobs.json")
    run.stop.touch()
    cancelled = graph.cancel(submissions)
    print(f"cancelled {', '.join(cancelled)}" if cancelled else "none of its jobs was queued or running")
    return 0
