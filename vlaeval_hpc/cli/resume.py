"""`resume RUN|SWEEP [key=value ...]`: start again what is open of a run or sweep, where it was started before."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console

from vlaeval_hpc.cli import sweep
from vlaeval_hpc.cli.arguments import run_directory
from vlaeval_hpc.cli.start import run_here, say, submit
from vlaeval_hpc.config.composition import from_yaml, to_yaml
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.evaluation import Preparation
from vlaeval_hpc.launch.folder import open_run
from vlaeval_hpc.launch.provenance import provenance
from vlaeval_hpc.results.rundir import is_open_run
from vlaeval_hpc.results.sweep import SweepFolder, is_sweep


def main(argv: list[str]) -> int:
    """Exit status 0 when everything is finished, or its jobs are submitted."""
    if not argv or argv[0].startswith("-") or "=" in argv[0]:
        raise ConfigurationError("resume: which run? resume RUN [key=value ...] (see --help)")
    if is_sweep(argv[0]):
        return _sweep(SweepFolder(argv[0]), argv[1:])
    run = run_directory(argv[0])
    config = from_yaml(run.config, argv[1:])
    config.results, config.run = str(run.root.parent), run.root.name
    console = Console(highlight=False)
    with Preparation(lambda line: say(console, line)) as preparation:
        evaluation = preparation.evaluation(config)
    command = [sys.executable, *sys.argv]
    open_run(evaluation.run, evaluation.plan, to_yaml(evaluation.config), provenance(command, evaluation))
    if config.cluster.scheduler == "slurm":
        submit(evaluation, console)
        return 0
    if evaluation.remote:
        evaluation.remote.publish(run, evaluation.plan)
    again = shlex.join(["python", "-m", "vlaeval_hpc", "resume", *argv])
    return 1 if is_open_run(run_here(evaluation, console, again)) else 0


def _sweep(folder: SweepFolder, changes: list[str]) -> int:
    console = Console(highlight=False)
    points = folder.load()
    members = [sweep.known(folder, points, point, changes) for point in points.points]
    with Preparation(lambda line: say(console, line)) as preparation:
        sweep.prepare(members, preparation, console)
        return sweep.go(folder, points, members, console)
