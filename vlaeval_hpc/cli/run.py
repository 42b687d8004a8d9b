"""`run`: an evaluation from a config to a table or to jobs, and a sweep of them."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from vlaeval_hpc.cli.start import check_jobs, run_here, say, show_scripts, submit
from vlaeval_hpc.config.composition import for_each, to_yaml
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, VlaevalError, unknown
from vlaeval_hpc.launch.evaluation import Preparation
from vlaeval_hpc.launch.folder import open_run
from vlaeval_hpc.launch.provenance import provenance
from vlaeval_hpc.results.rundir import is_open_run
from vlaeval_hpc.results.table import print_sweep

SCHEDULERS = ("local", "slurm")


@dataclass
class Point:
    """What became of one evaluation: its merged result, the error that kept it from one, or neither: it is queued."""

    overrides: list[str]
    merged: dict[str, Any] | None = None
    error: VlaevalError | None = None

    @property
    def good(self) -> bool:
        """Whether every planned episode is finished, or on its way."""
        return self.error is None and (self.merged is None or not is_open_run(self.merged))


def main(argv: list[str]) -> int:
    """Exit status 0 when every planned episode of every point is finished, or its jobs are submitted."""
    console = Console(highlight=False)
    dry_run = "--dry-run" in argv
    points: list[Point] = []
    several_points = False

    with Preparation(lambda line: say(console, line)) as preparation:

        def job(config: Config, overrides: list[str], several: bool) -> None:
            nonlocal several_points
            several_points = several
            try:
                points.append(Point(overrides, evaluate(config, preparation, console, dry_run)))
            except VlaevalError as error:
                # One point's failure is not the others'; alone it is the command's.
                if not several:
                    raise
                console.print(f"error: {error}", style="red", markup=False)
                points.append(Point(overrides, error=error))

        for_each([a for a in argv if a != "--dry-run"], job)
    if several_points and any(p.merged is not None for p in points):
        shared = set.intersection(*(set(p.overrides) for p in points))
        labels = [" ".join(o for o in p.overrides if o not in shared) for p in points]
        print_sweep(console, [(label, p.merged, p.error) for label, p in zip(labels, points, strict=True)])
    return 0 if all(p.good for p in points) else 1


def evaluate(config: Config, preparation: Preparation, console: Console, dry_run: bool) -> dict[str, Any] | None:
    """Prepare, check, and start what is open: the merged result, None where it will come from jobs or not at all."""
    if config.cluster.scheduler not in SCHEDULERS:
        raise unknown("cluster.scheduler", config.cluster.scheduler, SCHEDULERS)
    evaluation = preparation.evaluation(config)
    run, on_slurm = evaluation.run, config.cluster.scheduler == "slurm"
    if not on_slurm and config.model.replicas > 1:
        raise ConfigurationError("model.replicas: cluster=local runs one server: valid: 1")
    if on_slurm:
        check_jobs(evaluation)
    if dry_run:
        if on_slurm:
            show_scripts(evaluation, console)
        else:
            plan = evaluation.plan
            say(console, f"would run {len(plan.items)} episodes in {plan.shards} shards, in {run.root}")
        return None
    command = _without_token([sys.executable, *sys.argv])
    open_run(run, evaluation.plan, to_yaml(evaluation.config), provenance(command, evaluation))
    if evaluation.remote:
        evaluation.remote.publish(run, evaluation.plan)
    if not config.submit:
        say(console, f"made {run.root}, nothing is started: `vlaeval_hpc serve`, `shard` and `merge` take it")
        return None
    if on_slurm:
        if submit(evaluation, console) is not None:
            say(console, f"follow it: python -m vlaeval_hpc status {shlex.quote(str(run.root))} --watch")
        return None
    again = shlex.join(["python", "-m", "vlaeval_hpc", *_without_token(sys.argv[1:])])
    return run_here(evaluation, console, again)


def _without_token(words: list[str]) -> list[str]:
    """A command line as it may be kept: secrets are not."""
    return [re.sub(r"([?&]token=)[^&\s]+", r"\1...", word) for word in words]
