"""`run`: an evaluation from a config to a table, and a sweep of them."""

from __future__ import annotations

import re
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from vlaeval_hpc.cli.progress import Progress
from vlaeval_hpc.config.composition import for_each, to_yaml
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError, VlaevalError
from vlaeval_hpc.launch.description import describe_benchmark, describe_policy
from vlaeval_hpc.launch.environment import interpreter
from vlaeval_hpc.launch.folder import open_run
from vlaeval_hpc.launch.local import LocalCluster
from vlaeval_hpc.launch.planning import check_fit, check_numbers, make_plan, run_name
from vlaeval_hpc.launch.provenance import provenance
from vlaeval_hpc.launch.remote import RemoteServer
from vlaeval_hpc.results.export import write_merged
from vlaeval_hpc.results.rundir import merge_run
from vlaeval_hpc.results.table import print_merged, print_sweep
from vlaeval_hpc.run.coverage import open_shards
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan


@dataclass
class Point:
    """What became of one evaluation: its merged result, or the error that kept it from one."""

    overrides: list[str]
    merged: dict[str, Any] | None = None
    error: VlaevalError | None = None

    @property
    def complete(self) -> bool:
        """Whether every planned episode is finished."""
        return self.merged is not None and not is_open_run(self.merged)


def is_open_run(merged: dict[str, Any]) -> bool:
    """Whether an episode is missing, or failed in a way that is worth another try."""
    return bool(merged.get("partial") or merged["coverage"]["retriable"])


def main(argv: list[str]) -> int:
    """Exit status 0 when every planned episode of every point is finished."""
    console = Console(highlight=False)
    points: list[Point] = []
    several_points = False

    def job(config: Config, overrides: list[str], several: bool) -> None:
        nonlocal several_points
        several_points = several
        try:
            points.append(Point(overrides, evaluate(config, console)))
        except VlaevalError as error:
            # One point's failure is not the others'; alone it is the command's.
            if not several:
                raise
            console.print(f"error: {error}", style="red", markup=False)
            points.append(Point(overrides, error=error))

    for_each(argv, job)
    if several_points:
        shared = set.intersection(*(set(p.overrides) for p in points))
        labels = [" ".join(o for o in p.overrides if o not in shared) for p in points]
        print_sweep(console, [(label, p.merged, p.error) for label, p in zip(labels, points, strict=True)])
    return 0 if all(p.complete for p in points) else 1


def evaluate(config: Config, console: Console) -> dict[str, Any]:
    """Prepare, check, run what is open, merge, and print; the merged result."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    check_numbers(config)
    if config.cluster.name != "local":
        raise ConfigurationError(f"cluster={config.cluster.name}: only cluster=local runs from here yet")
    remote = RemoteServer.parse(config.server.url) if config.server.url else None
    if remote:
        remote.check()
        config = replace(config, server=replace(config.server, url=remote.url))
    elif config.model.target is None:
        raise ConfigurationError(f"model={config.model.name} needs server.url=ws://HOST:PORT")
    pythons = {"benchmark": interpreter(config.benchmark.environment, config.benchmark.name, say)}
    if not remote:
        pythons["model"] = interpreter(config.model.environment, config.model.name, say)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(describe_benchmark, config.benchmark, pythons["benchmark"])
        policy = None if remote else describe_policy(config.model, pythons["model"])
        benchmark = asked.result()
    if policy is not None:
        check_fit(benchmark, policy, config)
    plan = make_plan(config, benchmark, policy)
    run = RunDirectory(Path(config.results) / (config.run or run_name(config, plan)))
    checkpoint = policy["checkpoint"] if policy else {}
    open_run(run, plan, to_yaml(config), provenance(_without_token([sys.executable, *sys.argv]), checkpoint, pythons))
    if remote:
        remote.publish(run, plan)
    stopped: InfrastructureError | None = None
    try:
        _run_open(config, run, plan, pythons, console)
    except InfrastructureError as error:
        stopped = error  # what was finished until now is shown all the same
    merged = merge_run(run)
    write_merged(run, merged)
    print_merged(console, merged)
    say(f"results in {run.root}")
    if is_open_run(merged):
        again = shlex.join(["python", "-m", "vlaeval_hpc", *_without_token(sys.argv[1:])])
        say(f"to finish what is open, the same again: {again}")
    if stopped is not None:
        raise stopped
    return merged


def _run_open(config: Config, run: RunDirectory, plan: Plan, pythons: dict[str, Path], console: Console) -> None:
    shards = open_shards(run, plan)
    where = f"{config.model.name} on {plan.name}: {len(plan.items)} episodes"
    if not shards:
        console.print(f"{where}: all were finished before", markup=False)
        return
    console.print(f"{where}, {len(shards)} shards, in {run.root}", markup=False, soft_wrap=True)
    cluster = LocalCluster(config, run, plan.shards, pythons)
    begin = time.monotonic()
    try:
        with Progress(console, run, plan) as progress:
            cluster.work(shards, progress.update)
    finally:
        for note in cluster.notes:
            console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"{time.monotonic() - begin:.0f} s", markup=False)


def _without_token(words: list[str]) -> list[str]:
    """A command line as it may be kept: secrets are not."""
    return [re.sub(r"([?&]token=)[^&\s]+", r"\1...", word) for word in words]
