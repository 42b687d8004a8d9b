"""A round: the jobs for what is open of a run, submitted by a person or, where it is worth it, by the merge before."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vlaeval_hpc.config.composition import from_yaml
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError, VlaevalError
from vlaeval_hpc.launch import graph, slurm
from vlaeval_hpc.launch.decisions import decide, decisions
from vlaeval_hpc.launch.folder import open_leases
from vlaeval_hpc.launch.jobs import Submission, read_submissions
from vlaeval_hpc.launch.memory import more, raises, ran_out
from vlaeval_hpc.launch.nodes import exclude, sick_nodes
from vlaeval_hpc.run.coverage import open_items, open_shards, tries_left
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.job import job_name
from vlaeval_hpc.run.lock import Lock, break_locks_of_jobs
from vlaeval_hpc.run.plan import Plan


def submit_round(config: Config, run: RunDirectory, plan: Plan, by_merge: bool = False) -> tuple[Submission, list[str]]:
    """Submit the jobs for what is open of a run of which none is queued or running, and tell what was decided for it.

    Raises ConfigurationError with what Slurm says against it; then nothing is queued.
    """
    shards = open_shards(run, plan)
    nodes = graph.build_graph(config, run, shards)
    graph.check(config, run, nodes)
    told = [*_leave_sick_nodes(run), *_give_memory(config, run, nodes)[1]]
    tries = tries_left(run, plan)
    open_leases(run, plan)
    run.stop.unlink(missing_ok=True)
    if not config.server.url:
        for path in [*run.server.glob("rendezvous-*.json"), run.server / "jobs-asked.json", run.idle]:
            path.unlink(missing_ok=True)
    for shard in shards:
        # The server takes a shard's file for its word that nothing is left to do.
        run.shard(plan.name, shard, plan.shards).result.unlink(missing_ok=True)
    return graph.submit(config, run, nodes, tries=tries, by_merge=by_merge), told


def go_on(run: RunDirectory) -> list[str]:
    """In a run's merge: submit what is open once more where the jobs before failed and yet got further.

    The lines that tell what was done; where Slurm cannot be asked from here, the command that does it.
    """
    config, plan = from_yaml(run.config), Plan.load(run.plan)
    submissions, tries = read_submissions(run), tries_left(run, plan)
    if not tries or not submissions:
        return []
    latest = submissions[-1]
    by_hand = f"to finish what is open: python -m vlaeval_hpc resume {shlex.quote(str(run.root))}"
    rounds = _rounds_by_merges(submissions)
    if rounds >= config.cluster.max_resubmits:
        return [f"not submitted again: cluster.max_resubmits={config.cluster.max_resubmits}; {by_hand}"]
    try:
        with Lock(run.server / "submit.lock"):
            nodes = graph.build_graph(config, run, open_shards(run, plan))
            given, told = _give_memory(config, run, nodes)
            if not given and latest.tries is not None and tries >= latest.tries:
                return [*told, f"not submitted again: these jobs got no further; {by_hand}"]
            ended = slurm.ended(latest.ids("server", "shards"))
            ours = {d["decision"] for d in decisions(run)}
            by_others = {t: s for t, s in ended.items() if f"{t} is cancelled" not in ours}
            if _cancelled(latest, by_others):
                return [f"not submitted again: jobs were cancelled; {by_hand}"]
            # What served these shards leaves now; it must not be taken for the next round's.
            slurm.cancel(latest.ids("server"))
            break_locks_of_jobs(run.shards, {task for job in latest.jobs for task in job.task_ids})
            submission, _ = submit_round(config, run, plan, by_merge=True)
    except VlaevalError as error:
        return [f"not submitted again: {error}; {by_hand}"]
    count, states = len(open_items(run, plan)), Counter(ended.values()).most_common()
    why = f"{count} episodes are open; of the jobs before: {', '.join(f'{n} {state}' for state, n in states)}"
    jobs = f"as {', '.join(submission.ids())}"
    try:
        slurm.wait_for_another(job_name() or "", submission.ids("merge")[-1])
        decide(run, f"submitted again {jobs}", why)
    except InfrastructureError as error:
        told.append(f"warning: {error}")
    return [*told, f"submitted again ({rounds + 1} of {config.cluster.max_resubmits} times) {jobs}: {why}"]


def _rounds_by_merges(submissions: list[Submission]) -> int:
    """How many merges in a row, the latest last, have submitted."""
    count = 0
    for submission in reversed(submissions):
        if not submission.by_merge:
            break
        count += 1
    return count


def _cancelled(latest: Submission, ended: Mapping[str, str]) -> bool:
    """Whether somebody ended these jobs on purpose, and nothing else befell them."""
    servers = {task for task, _ in latest.tasks("server")}
    if any(ended.get(task) == "CANCELLED" for task in servers):
        return True
    states = {state for task, state in ended.items() if task not in servers}
    return "CANCELLED" in states and states <= {"CANCELLED", "COMPLETED"}


def _leave_sick_nodes(run: RunDirectory) -> list[str]:
    told = []
    for node, why in sick_nodes(run).items():
        exclude(run, node)
        told.append(f"without node {node}: the first episodes of a shard failed there ({why}); see {run.decisions}")
    return told


def _give_memory(config: Config, run: RunDirectory, nodes: Sequence[graph.Node]) -> tuple[bool, list[str]]:
    """More for those kinds of jobs of which one ran out of it in the latest submission; see launch.memory.

    Whether any was given, and what there is to tell. To ask again changes nothing.
    """
    submissions = read_submissions(run)
    if not submissions:
        return False, []
    latest = submissions[-1]
    try:
        ended = slurm.ended(latest.ids())
    except InfrastructureError as error:
        return False, [f"whether memory ran out is not known: {error}"]
    given, told = False, []
    for kind in dict.fromkeys(job.kind for job in latest.jobs):
        short = [task for task, _ in latest.tasks(kind) if ran_out(run.root / graph.FOLDER, task, ended.get(task))]
        before = raises(run, kind)
        if not short or any(set(d.get("jobs", ())) & set(short) for d in before):
            continue
        what = f"{', '.join(short)} ran out of memory"
        if len(before) >= config.cluster.max_memory_raises:
            told.append(f"{what}: no more is given (cluster.max_memory_raises={config.cluster.max_memory_raises})")
            continue
        found = more(graph.options(config.cluster, run, kind))
        if found is None:
            told.append(f"{what}, and the config does not say how much it gets: give more, as cluster.shard.mem=16G")
            continue
        option, value = found
        section = graph.SECTIONS[kind]
        own = {**getattr(config.cluster, section), option.replace("-", "_"): value}
        wanted = replace(config, cluster=replace(config.cluster))
        setattr(wanted.cluster, section, own)
        try:
            graph.check(wanted, run, [node for node in nodes if node.kind == kind][:1])
        except ConfigurationError as error:
            told.append(f"{what}, and Slurm refuses {option}={value}: {error}")
            continue
        decide(run, f"{kind} get {option}={value}", what, memory_of=kind, option=option, value=value, jobs=short)
        told.append(f"{what}: {kind} get {option}={value}")
        given = True
    return given, told
