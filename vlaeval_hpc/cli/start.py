"""Starting what is open of an evaluation: here, or as jobs."""

from __future__ import annotations

import shlex
import time
from typing import Any

from rich.console import Console

from vlaeval_hpc.cli.progress import Progress
from vlaeval_hpc.cli.tracking import track
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.launch import graph
from vlaeval_hpc.launch.evaluation import Evaluation
from vlaeval_hpc.launch.folder import open_leases
from vlaeval_hpc.launch.jobs import Submission, read_submissions
from vlaeval_hpc.launch.local import LocalCluster
from vlaeval_hpc.launch.rounds import submit_round
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.results.rundir import is_merged, is_open_run
from vlaeval_hpc.results.table import print_merged
from vlaeval_hpc.run.coverage import open_shards
from vlaeval_hpc.run.lock import break_locks_of_jobs


def run_here(evaluation: Evaluation, console: Console, again: str) -> dict[str, Any]:
    """Run what is open on this machine, merge and print; `again` is the command that finishes what stays open."""
    stopped: InfrastructureError | None = None
    try:
        _work_here(evaluation, console)
    except InfrastructureError as error:
        stopped = error  # what was finished until now is shown all the same
    merged = merge_into_files(evaluation.run)
    track(evaluation.run, merged, console)
    print_merged(console, merged)
    say(console, f"results in {evaluation.run.root}")
    if is_open_run(merged):
        say(console, f"to finish what is open, the same again: {again}")
    if stopped is not None:
        raise stopped
    return merged


def submit(evaluation: Evaluation, console: Console) -> Submission | None:
    """Submit the jobs for what is open; None where nothing is. Raises ConfigurationError; then nothing is queued."""
    run, config, plan = evaluation.run, evaluation.config, evaluation.plan
    refuse_active(evaluation, read_submissions(run))
    shards = open_shards(run, plan)
    where = f"{config.model.name} on {plan.name}: {len(plan.items)} episodes"
    if not shards:
        if not is_merged(run):  # the merge's job was killed
            merge_into_files(run)
        say(console, f"{where}: all were finished before; results in {run.root}")
        return None
    submission, told_of = submit_round(config, run, plan)
    say(console, f"{where}, {len(shards)} shards, in {run.root}")
    for line in told_of:
        say(console, line)
    told = [f"{job.kind} {job.id}" + (f" ({len(job.members)} tasks)" if len(job.members) > 1 else "")
            for job in submission.jobs]  # fmt: skip
    say(console, f"submitted: {', '.join(told)}")
    return submission


def check_jobs(evaluation: Evaluation) -> None:
    """Raises ConfigurationError where Slurm would refuse a job, or its nodes cannot see the results."""
    config, run = evaluation.config, evaluation.run
    graph.check(config, run, graph.build_graph(config, run, range(evaluation.plan.shards)))


def refuse_active(evaluation: Evaluation, submissions: list[Submission]) -> None:
    """Raises ConfigurationError where jobs of the run are still there; else forgets the locks that they left."""
    run = evaluation.run
    if not submissions:
        return
    active = graph.active(submissions)
    if active:
        ids = sorted({task.partition("_")[0] for task in active})
        raise ConfigurationError(
            f"{run.root}: its jobs {', '.join(ids)} are still queued or running: wait for them, or"
            f" `vlaeval_hpc cancel {shlex.quote(str(run.root))}`"
        )
    break_locks_of_jobs(run.shards, {task for s in submissions for job in s.jobs for task in job.task_ids})


def show_scripts(evaluation: Evaluation, console: Console) -> None:
    """Print the script of every job that `submit` would submit."""
    run = evaluation.run
    shards = open_shards(run, evaluation.plan)
    nodes = graph.build_graph(evaluation.config, run, shards)
    for node, text in graph.scripts(evaluation.config, run, nodes):
        tasks = f", {len(node.calls)} tasks" if len(node.calls) > 1 else ""
        say(console, f"# ---- {node.kind}{tasks}\n{text}")


def _work_here(evaluation: Evaluation, console: Console) -> None:
    run, plan = evaluation.run, evaluation.plan
    shards = open_shards(run, plan)
    where = f"{evaluation.config.model.name} on {plan.name}: {len(plan.items)} episodes"
    if not shards:
        say(console, f"{where}: all were finished before")
        return
    say(console, f"{where}, {len(shards)} shards, in {run.root}")
    open_leases(run, plan)
    cluster = LocalCluster(evaluation.config, run, plan.shards, evaluation.runtimes)
    begin = time.monotonic()
    try:
        with Progress(console, run, plan) as progress:
            cluster.work(shards, progress.update)
    finally:
        for note in cluster.notes:
            say(console, f"note: {note}")
    say(console, f"{time.monotonic() - begin:.0f} s")


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, markup=False, soft_wrap=True)
