"""One evaluation from its config: prepared and checked, then started here or as jobs."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from vlaeval_hpc.cli.start import check_jobs, run_here, say, show_scripts, submit
from vlaeval_hpc.config.composition import to_yaml
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.launch.evaluation import Evaluation, Preparation
from vlaeval_hpc.launch.folder import open_leases, open_run
from vlaeval_hpc.launch.provenance import provenance
from vlaeval_hpc.results.tracking.record import check_tracker

SCHEDULERS = ("local", "slurm")


def prepared(config: Config, preparation: Preparation) -> Evaluation:
    """The evaluation, checked as far as can be without starting it. Raises ConfigurationError."""
    if config.cluster.scheduler not in SCHEDULERS:
        raise unknown("cluster.scheduler", config.cluster.scheduler, SCHEDULERS)
    if config.tracking.name != "none":
        check_tracker(config.tracking.name)
    evaluation = preparation.evaluation(config)
    on_slurm = config.cluster.scheduler == "slurm"
    if not on_slurm and config.model.replicas > 1:
        raise ConfigurationError("model.replicas: cluster=local runs one server: valid: 1")
    if on_slurm:
        check_jobs(evaluation)
    return evaluation


def show(evaluation: Evaluation, console: Console) -> None:
    """What `start` would do."""
    if evaluation.config.cluster.scheduler == "slurm":
        show_scripts(evaluation, console)
    else:
        plan = evaluation.plan
        say(console, f"would run {len(plan.items)} episodes in {plan.shards} shards, in {evaluation.run.root}")


def start(evaluation: Evaluation, overrides: Sequence[str], console: Console) -> dict[str, Any] | None:
    """Start what is open: the merged result, None where it will come from jobs or not at all.

    `overrides` are what of a command line chose this evaluation, for whoever wants it again.
    """
    run, config = evaluation.run, evaluation.config
    command = without_token([sys.executable, *sys.argv])
    made = provenance(command, evaluation)
    open_run(
        run,
        evaluation.plan,
        to_yaml(config),
        {**made, "overrides": without_token(overrides), "folder": os.getcwd()},
    )
    if evaluation.remote:
        evaluation.remote.publish(run, evaluation.plan)
    if not config.submit:
        open_leases(run, evaluation.plan)
        say(console, f"made {run.root}, nothing is started: `vlaeval_hpc serve`, `shard` and `merge` take it")
        return None
    if config.cluster.scheduler == "slurm":
        if submit(evaluation, console) is not None:
            say(console, f"follow it: python -m vlaeval_hpc status {shlex.quote(str(run.root))} --watch")
        return None
    again = shlex.join(["python", "-m", "vlaeval_hpc", *without_token(sys.argv[1:])])
    return run_here(evaluation, console, again)


def options(words: Sequence[str]) -> list[str]:
    """What of a command line is no override and chooses configs, to be given again."""
    pairs = itertools.pairwise(words)
    return [w for o, folder in pairs if o in ("--config-dir", "-cd") for w in (o, str(Path(folder).absolute()))]


def without_token(words: Sequence[str]) -> list[str]:
    """A command line as it may be kept: secrets are not."""
    return [re.sub(r"([?&]token=)[^&\s]+", r"\1...", word) for word in words]
