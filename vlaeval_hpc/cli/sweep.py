"""A sweep: its points prepared, started here or as jobs, and shown together. `run -m`, `resume` and `watch` use it."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from vlaeval_hpc.cli.evaluate import options, prepared, show, start
from vlaeval_hpc.cli.start import say
from vlaeval_hpc.config.composition import for_each, from_yaml
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.config.sweep import CHECKPOINT, Axis, short_names, training_steps, value_of
from vlaeval_hpc.errors import ConfigurationError, VlaevalError, unknown
from vlaeval_hpc.launch import graph
from vlaeval_hpc.launch import sweep as job
from vlaeval_hpc.launch.evaluation import Evaluation, Preparation
from vlaeval_hpc.launch.jobs import Job, read_submissions
from vlaeval_hpc.results.early import EARLY, LOOKS
from vlaeval_hpc.results.sweep import Point, Points, Sweep, SweepFolder, stop_worse, write_sweep
from vlaeval_hpc.results.sweeptable import print_sweep
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan

STOPS = ("never", EARLY)


@dataclass
class Member:
    """A point, its config, and its evaluation once it is prepared."""

    point: Point
    config: Config
    evaluation: Evaluation | None = None


def composed(words: Sequence[str], varied: Sequence[Axis]) -> tuple[Path, list[Member]]:
    """The sweep's folder and its points, in order. Raises ConfigurationError.

    `run` names the sweep, not its runs, whose names are their own.
    """
    found: list[tuple[Config, list[str]]] = []

    def one(config: Config, overrides: list[str], _: bool) -> None:
        found.append((config, overrides))

    for_each(list(words), one)
    keys = [axis.key for axis in varied]
    values = [{key: value_of(overrides, key) for key in keys} for _, overrides in found]
    labels = _labels(keys, values)
    steps = training_steps([v[CHECKPOINT] for v in values]) if CHECKPOINT in keys else [None] * len(values)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"{' '.join(keys)}: {twice} comes twice")
    first = found[0][0]
    if first.sweep.stop not in STOPS:
        raise unknown("sweep.stop", first.sweep.stop, STOPS)
    name = first.run if first.run is not None and "run" not in keys else job.sweep_name(first, varied)
    members = []
    for (config, overrides), label, step in zip(found, labels, steps, strict=True):
        config = config if "run" in keys else replace(config, run=None)
        members.append(Member(Point(label, overrides, step), config))
    return Path(first.results) / "sweeps" / name, members


def points_of(folder: SweepFolder, words: Sequence[str], varied: Sequence[Axis], members: Sequence[Member]) -> Points:
    """A sweep's points before any is there, but for what its folder knows of an earlier start.

    Raises ConfigurationError where it was started with another sweep.stop: that is declared before anybody looks.
    """
    stop = members[0].config.sweep.stop
    points = Points([axis.key for axis in varied], options(words), stop)
    if folder.file.exists():
        before = folder.load()
        if before.stop != stop:
            raise ConfigurationError(f"sweep.stop={stop}: {folder.root} was started with {before.stop}: another run=")
        points.looks = before.looks
        stopped = {p.label: p.stopped_after for p in before.points}
        for member in members:
            member.point.stopped_after = stopped.get(member.point.label)
    return points


def known(folder: SweepFolder, points: Points, point: Point, changes: Sequence[str] = ()) -> Member:
    """A point that was prepared before, as its run says, else as its overrides do. Raises ConfigurationError."""
    run = folder.run(point)
    if run is not None and run.config.exists():
        config = from_yaml(run.config, changes)
        config.results, config.run = str(run.root.parent), run.root.name
        return Member(point, config)
    found: list[Config] = []
    for_each([*points.options, *point.overrides, *changes], lambda config, *_: found.append(config))
    return Member(point, replace(found[0], results=str(folder.root.parent.parent), run=None))


def prepare(members: Sequence[Member], preparation: Preparation, console: Console) -> None:
    """Prepare every point; one that cannot be is told, and left out: one point's failure is not the others'."""
    for member in members:
        with _told(member, console):
            member.evaluation = prepared(member.config, preparation)


def go(folder: SweepFolder, points: Points, members: Sequence[Member], console: Console) -> int:
    """Start what is open of these members, which become points of the sweep; the exit status.

    Here, sweep.json is kept up to date after each; on a cluster, a job writes it after all merges. Raises
    ConfigurationError where points that are to be stopped early cannot be compared.
    """
    for member in members:
        if member.evaluation is not None:
            member.point.run = folder.link(member.evaluation.run)
        points.add(member.point)
    if points.stop == EARLY:
        _check_pairs(members)
    folder.save(points)
    on_slurm = any(m.config.cluster.scheduler == "slurm" for m in members)
    active = _active(members)
    if points.stop == EARLY and not active:
        merges = _rounds(folder, points, members, console)
    else:
        merges = _start(folder, points, members, console, active)
    still = _still(merges)
    if still:
        config = next(m.config for m in members if m.evaluation is not None)
        more = points.stop == EARLY and points.looks < len(LOOKS)
        if not (more and active):  # its job for the next look is there already
            submitted = job.submit(config, folder.root, still, "resume" if more else "merge")
            say(console, f"sweep in {folder.root}, by job {submitted.id} after {len(still)} merges")
        say(console, f"follow it: python -m vlaeval_hpc status {shlex.quote(str(folder.root))}")
    found = write_sweep(folder)
    if not still:
        tell(folder, found, console)
    mine = [p for p in found["points"] if p["label"] in {m.point.label for m in members}]
    bad = any(p["error"] is not None for p in mine)
    here = not on_slurm and any(m.config.submit for m in members)
    return int(bad or (here and any(p["state"] not in ("done", "stopped") for p in mine)))


def _start(
    folder: SweepFolder, points: Points, members: Sequence[Member], console: Console, active: Container[str] = ()
) -> list[Job]:
    """Start what is open of each, one after the other; the merges that will come of it."""
    merges: list[Job] = []
    for member in members:
        if member.evaluation is None:
            continue
        before = read_submissions(member.evaluation.run)
        under_way = any(i in active for s in before for i in s.ids())
        if under_way:
            say(console, f"{member.point.label}: its jobs are queued or running already")
        else:
            with _told(member, console):
                start(member.evaluation, [*points.options, *member.point.overrides], console)
        folder.save(points)
        if member.config.cluster.scheduler == "slurm":
            latest = read_submissions(member.evaluation.run)
            if under_way or len(latest) > len(before):
                merges += [j for j in latest[-1].jobs if j.kind == "merge"]
        elif member.config.submit:
            write_sweep(folder)
    return merges


def _rounds(folder: SweepFolder, points: Points, members: Sequence[Member], console: Console) -> list[Job]:
    """Run a share of the episodes of all points, look, stop those that are clearly worse, and so on; the merges after
    which a job goes on, on a cluster."""
    while True:
        if 0 < points.looks < len(LOOKS):
            for point in stop_worse(folder):
                next(p for p in points.points if p.label == point.label).stopped_after = point.stopped_after
                say(console, f"{point.label}: clearly worse than another, stopped after {point.stopped_after} episodes")
        share = LOOKS[min(points.looks, len(LOOKS) - 1)]
        going = [m for m in members if m.evaluation is not None and m.point.stopped_after is None]
        say(console, f"look {min(points.looks + 1, len(LOOKS))} of {len(LOOKS)}: {len(going)} points")
        merges = _start(folder, points, [replace(m, evaluation=_share(m.evaluation, share)) for m in going], console)
        points.looks = min(points.looks + 1, len(LOOKS))
        folder.save(points)
        if merges or points.looks == len(LOOKS) or not going or not any(m.config.submit for m in going):
            return merges


def _share(evaluation: Evaluation | None, share: float) -> Evaluation:
    """The evaluation with the first episodes of every task, one of each in turn; never fewer than are planned."""
    assert evaluation is not None
    plan = evaluation.plan
    count = math.ceil(share * (1 + max(item.episode for item in plan.items)))
    if evaluation.run.plan.exists():
        count = max(count, 1 + max(item.episode for item in Plan.load(evaluation.run.plan).items))
    items = sorted((item for item in plan.items if item.episode < count), key=lambda item: item.episode)
    return replace(evaluation, plan=replace(plan, items=items, shards=min(plan.shards, len(items))))


def _check_pairs(members: Sequence[Member]) -> None:
    plans = [m.evaluation.plan for m in members if m.evaluation is not None]
    for plan in plans:
        if "success" not in plan.benchmark["metrics"]:
            raise ConfigurationError(f"sweep.stop=early: {plan.name} has no success to compare points by")
        if (plan.items, plan.benchmark) != (plans[0].items, plans[0].benchmark):
            raise ConfigurationError("sweep.stop=early: points of other episodes or benchmarks cannot be compared")


def dry_run(folder: SweepFolder, members: Sequence[Member], console: Console) -> int:
    """Show what `go` would start; nothing is written."""
    for member in members:
        if member.evaluation is not None:
            say(console, f"# point {member.point.label}")
            show(member.evaluation, console)
    say(console, f"would make of them {folder.root}")
    return int(any(m.evaluation is None for m in members))


def tell(folder: SweepFolder, found: Sweep, console: Console) -> None:
    """Print the table."""
    print_sweep(console, found)
    say(console, f"sweep in {folder.root}")


@contextlib.contextmanager
def _told(member: Member, console: Console) -> Iterator[None]:
    try:
        yield
        member.point.error = None
    except VlaevalError as error:
        console.print(f"error: {member.point.label}: {error}", style="red", markup=False, soft_wrap=True)
        member.point.error = str(error)
        if error.exit_code > 128:
            raise  # a signal: it ends the sweep too


def _labels(keys: Sequence[str], values: Sequence[dict[str, str]]) -> list[str]:
    shown = {key: [v[key] for v in values] for key in keys}
    if CHECKPOINT in shown:
        shown[CHECKPOINT] = short_names(shown[CHECKPOINT])
    if len(keys) == 1:
        return shown[keys[0]]
    return [" ".join(f"{key}={shown[key][i]}" for key in keys) for i in range(len(values))]


def _active(members: Sequence[Member]) -> set[str]:
    """Ids of the jobs of these points that are queued or running, by one question."""
    runs: list[RunDirectory] = [
        m.evaluation.run for m in members if m.evaluation is not None and m.config.cluster.scheduler == "slurm"
    ]
    submissions = [s for run in runs for s in read_submissions(run)]
    return {task.partition("_")[0] for task in graph.active(submissions)} if submissions else set()


def _still(jobs: Sequence[Job]) -> list[Job]:
    """Those of the jobs that Slurm still knows."""
    from vlaeval_hpc.launch import slurm

    known = slurm.states(j.id for j in jobs)
    return [j for j in jobs if j.id in known]
