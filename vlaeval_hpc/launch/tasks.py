"""What runs in a job: submitit calls one of these there, a person's own sbatch script the verbs that call the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlaeval_hpc.config.composition import from_yaml
from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.launch import slurm
from vlaeval_hpc.launch.decisions import decide
from vlaeval_hpc.launch.jobs import read_submissions
from vlaeval_hpc.launch.machine import in_turn, share, usable_cpus, usable_gpus
from vlaeval_hpc.launch.nodes import exclude, excluded
from vlaeval_hpc.launch.process import Outcome, supervise
from vlaeval_hpc.launch.roles import server_process, shard_process
from vlaeval_hpc.launch.runtime import known_runtime
from vlaeval_hpc.launch.watch import ServerWatch
from vlaeval_hpc.run.clock import age
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import FILES_AWAY
from vlaeval_hpc.run.job import node_name
from vlaeval_hpc.run.output import print_what_fits
from vlaeval_hpc.run.plan import Plan

SICK = 76  # exit status of a shard on whose node nothing works
CANCEL_EVERY = 10.0  # seconds
LONGEST_GRACE = 3600.0  # seconds; by then Slurm has ended a job that it preempts


def serve(run: RunDirectory, replica: int, *, logged: bool = True) -> Outcome:
    """Be a replica of the run's server, until it ends; `logged`: in the run directory, not to our own output."""
    config = from_yaml(run.config)
    runtime = known_runtime(config.model.environment, config.model.name)
    process = server_process(run, replica, runtime, usable_gpus(None))
    if not logged:
        process.log = None
    # A policy may use what its job has; simulators stay at one thread, for the sake of equal outcomes.
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    if cpus:
        process.variables["OMP_NUM_THREADS"] = cpus
    return supervise([process])


def work(run: RunDirectory, shards: Sequence[int], *, logged: bool = True) -> Outcome:
    """Run these shards side by side, with an even share of the CPUs and GPUs that we have; `logged` as in serve."""
    config = from_yaml(run.config)
    runtime = known_runtime(config.benchmark.environment, config.benchmark.name)
    gpus, cpus = usable_gpus(None), usable_cpus(None)
    count = len(shards)
    processes = [
        shard_process(run, shard, runtime, in_turn(gpus, i), share(cpus, i, count) if count > 1 else ())
        for i, shard in enumerate(shards)
    ]
    if not logged:
        for process in processes:
            process.log = None
    watch = ServerWatch(run)
    return supervise(processes, watch.look)


@dataclass(frozen=True)
class ServerTask:
    """A replica of the server, as a job."""

    run: str
    replica: int

    def __call__(self) -> None:
        """Serve; back into the queue when the time is up before the work is."""
        print_what_fits()
        run = RunDirectory(self.run)
        outcome = serve(run, self.replica)
        _leave(run, outcome, go_on=not run.stop.exists())


@dataclass(frozen=True)
class ShardsTask:
    """Some shards, as a job or a task of a job array."""

    run: str
    shards: tuple[int, ...]

    def __call__(self) -> None:
        """Work; back into the queue when the time is up before the work is."""
        print_what_fits()
        run = RunDirectory(self.run)
        outcome = work(run, self.shards)
        if outcome.status == SICK:
            _leave_out_this_node(run)
        _cancel_waiting(run)
        _leave(run, outcome, go_on=outcome.status not in (0, SICK))


@dataclass(frozen=True)
class MergeTask:
    """The merge, after every shard has ended in whatever way."""

    run: str

    def __call__(self) -> None:
        """Merge what is there; the server has nobody to wait for any more."""
        print_what_fits()
        run = RunDirectory(self.run)
        deadline = time.monotonic() + FILES_AWAY
        while (status := _merge(run)) == InfrastructureError.exit_code and time.monotonic() < deadline:
            print("the file system refuses to write: again in 10 s", flush=True)
            time.sleep(10.0)
        for line in _go_on(run):
            print(line, flush=True)
        if status:
            sys.exit(status)


def _go_on(run: RunDirectory) -> list[str]:
    """What became of the open episodes; the lines are in merge.log too."""
    from vlaeval_hpc.launch import rounds  # which knows the tasks, by launch.graph

    lines = rounds.go_on(run)
    with contextlib.suppress(OSError), (run.logs / "merge.log").open("a") as log:
        log.writelines(f"{line}\n" for line in lines)
    return lines


def _merge(run: RunDirectory) -> int:
    """The exit status of the verb; of InfrastructureError also where its log cannot be opened."""
    try:
        run.stop.touch()
        log = (run.logs / "merge.log").open("ab")
    except OSError:
        return InfrastructureError.exit_code
    with log:
        return subprocess.run(
            [sys.executable, "-m", "vlaeval_hpc", "merge", str(run.root)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        ).returncode


def _leave_out_this_node(run: RunDirectory) -> None:
    """Nothing works here: no shard of this run that still waits shall come."""
    node, cluster = node_name(), from_yaml(run.config).cluster
    try:
        if exclude(run, node):
            ids = [i for s in read_submissions(run)[-1:] for i in s.ids("shards")]
            slurm.exclude_pending(ids, excluded(run, cluster) or node)
    except InfrastructureError as error:
        print(f"warning: {error}", flush=True)


def _cancel_waiting(run: RunDirectory) -> None:
    """Cancel the shards that wait in vain: all that have not begun, once every item of an elastic run is finished;
    before, those that no node started, for which the merge would wait for ever."""
    plan = Plan.load(run.plan)
    finished = run.all_finished(plan.leases)
    try:
        ids = [i for s in read_submissions(run)[-1:] for i in s.ids("shards")]
        if plan.sharding == "elastic" and finished.exists():
            if _first_for(finished.with_name("cancelled"), CANCEL_EVERY):
                slurm.cancel_pending(ids)
            return
        for task in slurm.not_started(ids):
            decide(run, f"{task} is cancelled", "no node started it, and Slurm held it in the queue")
            slurm.cancel([task])
    except InfrastructureError as error:
        print(f"warning: {error}", flush=True)  # they will see for themselves that nothing is left


def _first_for(mark: Path, seconds: float) -> bool:
    """Whether nobody was here for so long: thousands end in the same moment, and Slurm hears it from one of them."""
    with contextlib.suppress(OSError):
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            if (age(mark) or 0.0) < seconds:
                return False
            mark.touch()
    return True


def _leave(run: RunDirectory, outcome: Outcome, go_on: bool) -> None:
    """End the job with the processes' status, but where work is left: at a time limit's warning it goes back into the
    queue, and a preempted one waits to be put there."""
    if go_on and outcome.signal == signal.SIGUSR2:
        limit = from_yaml(run.config).cluster.max_requeues
        count = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if count < limit:
            print(f"time is nearly up: back into the queue ({count + 1} of {limit} times)", flush=True)
            slurm.requeue_this_task()
        else:
            print(f"time is up, and this was started again {count} times (cluster.max_requeues)", flush=True)
    elif go_on and outcome.signal == signal.SIGTERM and slurm.this_job_goes_on():
        # Preemption with a GraceTime: Slurm requeues what still runs when that is over; a job that ended before counts
        # as failed.
        print("preempted: waiting for Slurm to put this job back into the queue", flush=True)
        time.sleep(LONGEST_GRACE)
    if outcome.status:
        sys.exit(outcome.status)  # no exception: what went wrong is in the log, and a traceback of ours tells nothing
