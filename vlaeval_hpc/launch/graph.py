"""cluster=slurm: the job graph of an evaluation, submitted through submitit. Server, then shards, then merge."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlaeval_hpc.config.schema import ClusterConfig, Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch import slurm
from vlaeval_hpc.launch.filesystem import check_shared
from vlaeval_hpc.launch.jobs import Job, Submission, read_submissions, record
from vlaeval_hpc.launch.memory import raised
from vlaeval_hpc.launch.nodes import excluded
from vlaeval_hpc.launch.tasks import MergeTask, ServerTask, ShardsTask
from vlaeval_hpc.run.directory import RunDirectory

SECTIONS = {"server": "server", "shards": "shard", "merge": "merge", "sweep": "merge"}  # of config.cluster
FOLDER = "jobs"  # in the run directory: each job's script, what submitit hands to it, and what it printed


@dataclass(frozen=True)
class Node:
    """A job of the graph: what its tasks call, and which replicas or shards they are. `after` names the kinds of jobs
    that it waits for, and how."""

    kind: str
    calls: Sequence[Callable[[], None]]
    members: list[list[int]]
    after: tuple[str, str] | None = None


def build_graph(config: Config, run: RunDirectory, shards: Sequence[int]) -> list[Node]:
    """The jobs in the order of submission; arrays longer than Slurm takes are split. Raises ConfigurationError."""
    cluster, root = config.cluster, str(run.root.resolve())
    if cluster.cpus is not None or cluster.gpus is not None:
        raise ConfigurationError(
            "cluster.cpus, cluster.gpus are cluster=local's: valid: +cluster.shard.cpus_per_task=N"
        )
    per_task = cluster.shards_per_task
    groups = [list(shards[i : i + per_task]) for i in range(0, len(shards), per_task)]
    longest = slurm.max_array_size()  # of the index, so that as many tasks fit: 0 to MaxArraySize - 1
    if config.model.replicas > longest:
        raise ConfigurationError(f"model.replicas={config.model.replicas}: valid: up to MaxArraySize, {longest}")
    nodes = []
    if not config.server.url:
        replicas = range(config.model.replicas)
        nodes.append(Node("server", [ServerTask(root, r) for r in replicas], [[r] for r in replicas]))
    for i in range(0, len(groups), longest):
        part = groups[i : i + longest]
        after = ("after", "server") if nodes and nodes[0].kind == "server" else None
        nodes.append(Node("shards", [ShardsTask(root, tuple(g)) for g in part], part, after))
    return [*nodes, Node("merge", [MergeTask(root)], [[]], ("afterany", "shards"))]


def scripts(config: Config, run: RunDirectory, nodes: Sequence[Node]) -> list[tuple[Node, str]]:
    """Each job's sbatch script, with names for the ids that it waits for."""
    found = []
    for node in nodes:
        waits = "" if node.after is None else f"{node.after[0]}:{node.after[1].upper()}"
        found.append((node, _script(config, run, node, waits)))
    return found


def check(config: Config, run: RunDirectory, nodes: Sequence[Node]) -> None:
    """Ask whether Slurm would take every job, before any is submitted, and whether its nodes can see the results.

    Raises ConfigurationError.
    """
    check_shared(run.root)
    for node in nodes:
        slurm.check_script(_script(config, RunDirectory("/"), node, ""))  # the same text for every point of a sweep


def submit(
    config: Config, run: RunDirectory, nodes: Sequence[Node], tries: int | None = None, by_merge: bool = False
) -> Submission:
    """Submit every job, all of them or none; jobs.json tells of each as soon as it is queued.

    Raises ConfigurationError with what sbatch says.
    """
    earlier = read_submissions(run)
    jobs: list[Job] = []
    try:
        for node in nodes:
            jobs.append(submit_job(config, run, node, jobs))
            record(run, [*earlier, Submission(jobs, tries=tries, by_merge=by_merge)])
    except BaseException:
        slurm.cancel([job.id for job in reversed(jobs)])
        record(run, earlier)
        raise
    return Submission(jobs, tries=tries, by_merge=by_merge)


def submit_server(config: Config, run: RunDirectory) -> Job:
    """Submit the server of the latest submission once more, in place of the one that left; jobs.json tells of it.

    Raises ConfigurationError with what sbatch says.
    """
    *earlier, latest = read_submissions(run)
    node = next(n for n in build_graph(config, run, [0]) if n.kind == "server")
    job = submit_job(config, run, node, [])
    others = [j for j in latest.jobs if j.kind != "server"]
    record(run, [*earlier, replace(latest, jobs=[job, *others])])
    return job


def submit_job(config: Config, run: RunDirectory, node: Node, before: Sequence[Job]) -> Job:
    """Submit one; `before` are the jobs that it may wait for. Raises ConfigurationError with what sbatch says."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    dependency = _dependency(node, before)
    executor = _executor(config, run, node, dependency)
    try:
        with warnings.catch_warnings(), slurm.outside_of_any_job():
            warnings.simplefilter("ignore")  # submitit's advice on time-outs is for callables that checkpoint
            submitted = executor.submit_array(list(node.calls))
    except (FailedSubmissionError, FailedJobError) as error:
        text = " ".join(str(error).split())
        raise ConfigurationError(f"cluster: sbatch refused the {node.kind} job: {text}") from error
    name = submitted[0].job_id.partition("_")[0]
    return Job(node.kind, name, node.members, dependency, f"{FOLDER}/{name}_submission.sh")


def active(submissions: Sequence[Submission]) -> dict[str, str]:
    """State of every task of a run that is still queued or running. Raises InfrastructureError."""
    return slurm.states(i for s in submissions for i in s.ids())


def cancel(submissions: Sequence[Submission]) -> list[str]:
    """Cancel every job of a run, the merge first: it would start when the shards end. The ids that were still there."""
    still = {task.partition("_")[0] for task in active(submissions)}
    kinds = ("sweep", "merge", "shards", "server")
    order = [i for kind in kinds for s in submissions for i in s.ids(kind) if i in still]
    slurm.cancel(order)
    return order


def _dependency(node: Node, jobs: Sequence[Job]) -> str:
    if node.after is None:
        return ""
    how, kind = node.after
    ids = [i for job in jobs if job.kind == kind for i in (job.task_ids if how == "after" else [job.id])]
    # Any replica that has started will do; every array must have ended.
    return "?".join(f"{how}:{i}" for i in ids) if how == "after" else f"{how}:{':'.join(ids)}"


def options(cluster: ClusterConfig, run: RunDirectory, kind: str) -> dict[str, Any]:
    """sbatch options of a job, by their long names: the config's, and what was decided.

    Raises ConfigurationError for a value that is none.
    """
    own = getattr(cluster, SECTIONS[kind])
    found = {}
    for key, value in {**cluster.sbatch, **{k: v for k, v in own.items() if v is not None}}.items():
        if isinstance(value, (dict, list)):
            raise ConfigurationError(f"cluster: {key}={value}: valid: one value, as sbatch takes it")
        if value is not None and value is not False:
            found[key.replace("_", "-")] = value
    if kind == "shards" and (nodes := excluded(run, cluster)):
        found["exclude"] = nodes
    return raised(run, kind, found)


def _executor(config: Config, run: RunDirectory, node: Node, dependency: str) -> Any:
    import submitit

    parallel = config.cluster.array_parallelism if node.kind == "shards" else None
    try:
        # In the batch shell's place, without a step of its own: Slurm signals every process of a step, the one that
        # holds up a container's file system too. A warning (--signal=B:...) comes to the batch shell alone.
        executor = submitit.SlurmExecutor(
            folder=run.root.resolve() / FOLDER, python=f"exec {shlex.quote(sys.executable)}"
        )
    except RuntimeError:
        raise ConfigurationError("cluster: no srun here: is this a Slurm login node? (vlaeval_hpc doctor)") from None
    executor.update_parameters(
        job_name=f"{run.root.name[:40]}-{node.kind}",
        array_parallelism=parallel or max(1, len(node.calls)),
        stderr_to_stdout=True,
        use_srun=False,
        setup=["trap '' USR2"],  # a warning that comes before Python takes it must not end the job
        wckey=None,
        dependency=dependency or None,
        additional_parameters=options(config.cluster, run, node.kind),
    )
    return executor


def _script(config: Config, run: RunDirectory, node: Node, dependency: str) -> str:
    from submitit.slurm.slurm import _make_sbatch_string

    executor = _executor(config, run, node, dependency)
    count = {"map_count": len(node.calls)} if len(node.calls) > 1 else {}
    text: str = _make_sbatch_string(
        command=executor._submitit_command_str, folder=executor.folder, **{**executor.parameters, **count}
    )
    return text
