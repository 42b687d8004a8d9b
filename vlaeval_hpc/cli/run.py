"""`run`: an evaluation from a config to a table or to jobs, and a sweep of them."""

from __future__ import annotations

from rich.console import Console

from vlaeval_hpc.cli import sweep
from vlaeval_hpc.cli.evaluate import options, prepared, show, start
from vlaeval_hpc.cli.start import say
from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.config.sweep import axes
from vlaeval_hpc.launch.evaluation import Preparation
from vlaeval_hpc.results.rundir import is_open_run
from vlaeval_hpc.results.sweep import SweepFolder


def main(argv: list[str]) -> int:
    """Exit status 0 when every planned episode of every point is finished, or its jobs are submitted."""
    console = Console(highlight=False)
    dry_run = "--dry-run" in argv
    words = [a for a in argv if a != "--dry-run"]
    varied = axes(words)
    shows_only = any(w in words for w in ("--cfg", "-c", "--info", "-i", "--hydra-help"))
    with Preparation(lambda line: say(console, line)) as preparation:
        if varied and not shows_only:
            root, members = sweep.composed(words, varied)
            sweep.prepare(members, preparation, console)
            folder = SweepFolder(root)
            if dry_run:
                return sweep.dry_run(folder, members, console)
            return sweep.go(folder, sweep.points_of(folder, words, varied, members), members, console)
        status = 0

        def job(config: Config, overrides: list[str], _: bool) -> None:
            nonlocal status
            evaluation = prepared(config, preparation)
            if dry_run:
                show(evaluation, console)
                return
            merged = start(evaluation, [*options(words), *overrides], console)
            status = int(merged is not None and is_open_run(merged))

        for_each(words, job)
    return status
