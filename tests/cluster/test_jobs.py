"""cluster=slurm on a real Slurm, as an ordinary user, with doubles for policy and simulator: what becomes of jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import SHARED, Cluster
from tests.toys import journal, merged, outcomes

SLURM = (
    "cluster=slurm",
    "container=none",
    "cluster.server.partition=gpu",
    "cluster.server.mem=2G",
    "cluster.server.cpus_per_task=1",
    "cluster.shard.mem=2G",
    "cluster.shard.cpus_per_task=1",
    "cluster.merge.mem=1G",
)
Outcomes = dict[tuple[str, int], tuple[Any, ...]]


def toy(cluster: Cluster, *more: str) -> list[str]:
    """Arguments that choose the doubles and the cluster, `more` of them last."""
    conf = str(cluster.checkout / "tests" / "conf")
    return ["--config-dir", conf, "model=pilot", "benchmark=toy", "run=a", *SLURM, "cluster.shards=3", *more]


def submit(cluster: Cluster, folder: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = cluster.vlaeval(folder, *toy(cluster, *more), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def keys(folder: Path, run: str = "a") -> list[tuple[str, int]]:
    """Every journal line's episode, of those that ended with an outcome."""
    lines = [
        x for p in sorted((folder / "results" / run / "shards").glob("*.jsonl")) for x in p.read_text().split("\n")
    ]
    return [(e["task"], e["episode_id"]) for e in map(json.loads, filter(None, lines)) if "failure_reason" not in e]


def queued(cluster: Cluster) -> set[str]:
    """The jobs that are queued or running, those of the tests before, which may end at any time, among them."""
    return set(cluster.output("squeue -h -o %i").split())


@pytest.fixture(scope="module")
def expected(cluster: Cluster) -> Outcomes:
    """The same evaluation with cluster=local."""
    folder = SHARED / "tests" / f"expected-{os.getpid()}"
    cluster.output(f"rm -rf {folder} && mkdir -p {folder}")
    conf = str(cluster.checkout / "tests" / "conf")
    done = cluster.vlaeval(folder, "--config-dir", conf, "model=pilot", "benchmark=toy", "run=a")
    assert done.returncode == 0, done.stdout + done.stderr
    return outcomes(merged(folder, "a"))


def test_three_jobs_and_the_prompt_is_back(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    done = submit(cluster, folder)
    run = folder / "results" / "a"
    submission = json.loads((run / "jobs.json").read_text())["submissions"][-1]
    server, shards, merge = submission["jobs"]
    assert [job["kind"] for job in submission["jobs"]] == ["server", "shards", "merge"]
    assert shards["dependency"] == f"after:{server['id']}"
    assert merge["dependency"] == f"afterany:{shards['id']}"
    assert f"submitted: server {server['id']}, shards {shards['id']} (3 tasks), merge {merge['id']}" in done.stdout
    script = (run / shards["script"]).read_text()
    assert "#SBATCH --array=0-2%3" in script and "#SBATCH --mem=2G" in script
    assert "--gres=gpu:1" in (run / server["script"]).read_text()
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    ask = f"sacct -X -n -P -o state -j {server['id']},{merge['id']}"  # the accounting lags behind
    cluster.wait(lambda: cluster.output(ask).split() == ["COMPLETED", "COMPLETED"], 30, "two completed jobs")
    assert "total" in (run / "logs" / "merge.log").read_text()
    token = json.loads((run / "server" / "rendezvous-0.json").read_text())["token"]
    assert (run / "server" / "rendezvous-0.json").stat().st_mode & 0o777 == 0o600
    assert not [
        p for p in run.rglob("*") if p.is_file() and p.parent.name != "server" and token in p.read_text("latin1")
    ]
    again = submit(cluster, folder)
    assert "all were finished before" in again.stdout


def test_a_requeued_server_and_a_requeued_shard(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    submit(cluster, folder, "benchmark.params.pace=0.3", "benchmark.episodes_per_task=3")
    run = folder / "results" / "a"
    ids = cluster.jobs(run)
    cluster.wait(lambda: len(keys(folder)) >= 1, 90, "a first episode")
    cluster.output(f"scontrol requeue {ids['server'][0]}")
    cluster.output(f"scontrol requeue {ids['shards'][0]}_1")
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    assert sorted(keys(folder)) == sorted(expected)  # nothing twice
    assert (run / "logs" / "server-0.log").read_text().count("ready ws://") == 2
    # The same shard number, its log appended.
    assert "SIGTERM: leaving" in (run / "logs" / "shard-1.log").read_text()


def test_who_is_there_does_the_work_of_who_is_not(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    """One task of three may run at a time: the first does everything, and the others are not started any more."""
    submit(cluster, folder, "cluster.array_parallelism=1")
    run = folder / "results" / "a"
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    assert sorted(keys(folder)) == sorted(expected)
    assert [p.name for p in (run / "shards").glob("*.jsonl")] == ["toy_shard0of3.jsonl"]
    assert (run / "leases" / "1" / "cancelled").exists()
    assert not list((run / "logs").glob("shard-[12].log"))


def test_a_shard_that_dies_is_not_missed(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    submit(cluster, folder, "benchmark.params.pace=0.4")
    run = folder / "results" / "a"
    cluster.wait(lambda: len(keys(folder)) >= 1, 90, "a first episode")
    cluster.output(f"scancel --signal=KILL --full {cluster.jobs(run)['shards'][0]}_1")
    cluster.wait_for_jobs(run)
    result = merged(folder, "a")
    assert outcomes(result) == expected and "partial" not in result


def test_a_sick_node_is_left_and_excluded(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    """The first task's shard gives up; those that wait go elsewhere, and do its work."""
    submit(cluster, folder, "+benchmark.params.sick=[cpu01]", "cluster.array_parallelism=1")
    run = folder / "results" / "a"
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    (decision,) = json.loads((run / "decisions.json").read_text())
    assert decision["decision"] == "node cpu01 is excluded" and "simulator_start" in decision["why"]
    found = journal(folder, "a")
    assert {e["host"] for e in found if "failure_reason" in e} == {"cpu01"}
    assert len([e for e in found if e["host"] == "cpu01"]) == 3  # no other task came to that node
    again = submit(cluster, folder, "+benchmark.params.sick=[cpu01]", "benchmark.episodes_per_task=4", "--dry-run")
    assert "#SBATCH --exclude=cpu01" in again.stdout


def test_scaled_while_it_runs(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    submit(cluster, folder, "cluster.shards=1", "benchmark.params.pace=0.8")
    run = folder / "results" / "a"
    cluster.wait(lambda: list((run / "shards").glob("*.lock")), 90, "the shard")
    more = cluster.vlaeval(folder, "scale", "results/a", "3")
    assert more.returncode == 0 and more.stdout == "submitted 2 shards: 1, 2\n", more.stdout + more.stderr
    cluster.wait(lambda: len(list((run / "shards").glob("*.lock"))) == 3, 90, "three shards")
    fewer = cluster.vlaeval(folder, "scale", "results/a", "2")
    assert fewer.returncode == 0 and fewer.stdout == "cancelled 1 shards: 2\n", fewer.stdout + fewer.stderr
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    assert len({e["shard"] for e in journal(folder, "a")}) > 1
    late = cluster.vlaeval(folder, "scale", "results/a", "5")
    assert late.returncode == 2 and "resume RUN cluster.shards=N" in late.stderr


def test_a_preempted_shard_goes_on_where_it_was(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    low = ("cluster.shard.partition=preempt", "+cluster.shard.nodelist=cpu04")
    submit(cluster, folder, "benchmark.params.pace=2", *low)
    run = folder / "results" / "a"
    cluster.wait(lambda: len(list((run / "shards").glob("*.lock"))) == 3, 90, "three shards")
    cluster.output(
        "sbatch --wait --partition=cpu -w cpu04 --exclusive --output=/dev/null --wrap 'sleep 1'", timeout=180
    )
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    assert sorted(keys(folder)) == sorted(expected)
    # The time that a preempted job is granted is used; what it did not suffice for was done by the next start.
    assert "".join(p.read_text() for p in (run / "logs").glob("shard-*.log")).count("first observation") > 3


def test_cancel_then_resume(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    submit(cluster, folder, "benchmark.params.pace=0.4")
    run = folder / "results" / "a"
    cluster.wait(lambda: len(keys(folder)) >= 1, 90, "a first episode")
    refused = cluster.vlaeval(folder, *toy(cluster, "benchmark.params.pace=0.4"))
    assert refused.returncode == 2 and "still queued or running" in refused.stderr
    done = cluster.vlaeval(folder, "cancel", "results/a")
    assert done.returncode == 0 and done.stdout.startswith("cancelled "), done.stdout + done.stderr
    cluster.wait_for_jobs(run, 30)
    before = keys(folder)
    assert not (run / "merged.json").exists()
    done = cluster.vlaeval(folder, "resume", "results/a", "cluster.shards=3")
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    assert sorted(keys(folder)) == sorted(expected) and set(before) <= set(expected)
    submissions = json.loads((run / "jobs.json").read_text())["submissions"]
    assert len(submissions) == 2


def test_a_server_that_is_gone_for_good_ends_the_shards_early(cluster: Cluster, folder: Path) -> None:
    submit(cluster, folder, "model.params.fault=load")
    run = folder / "results" / "a"
    cluster.wait_for_jobs(run, 150)
    result = merged(folder, "a")
    assert result["partial"] is True and result["coverage"]["missing"] == 6
    assert "not submitted again: these jobs got no further; to finish" in (run / "logs" / "merge.log").read_text()
    assert "no such weights" in cluster.output(f"{cluster.python} -m vlaeval_hpc logs results/a", folder)


def test_a_server_that_left_for_want_of_shards_comes_back(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    """The shards are queued for longer than the server waits: no GPU is held for them, and nothing is lost."""
    submit(cluster, folder, "server.idle_timeout=4", "+cluster.shard.begin=now+20")
    run = folder / "results" / "a"
    first = cluster.jobs(run)["server"]
    cluster.wait(lambda: (run / "server" / "idle").exists(), 30, "the server's end")
    cluster.wait_for_jobs(run, 120)
    cluster.wait_for_jobs(run, 120)
    assert outcomes(merged(folder, "a")) == expected
    assert cluster.jobs(run)["server"] != first
    assert (run / "logs" / "server-0.log").read_text().count("ready ws://") == 2


def test_two_replicas_and_an_array_beyond_its_limit(cluster: Cluster, folder: Path) -> None:
    """18 shards where MaxArraySize is 16, several a task, and then one a task."""
    many = ("cluster.shards=18", "model.replicas=2", "benchmark.episodes_per_task=9", "cluster.array_parallelism=3")
    submit(cluster, folder, *many, "cluster.shards_per_task=1", "benchmark.params.pace=0.1")
    run = folder / "results" / "a"
    submission = json.loads((run / "jobs.json").read_text())["submissions"][-1]
    assert [(j["kind"], len(j["members"])) for j in submission["jobs"]] == [
        ("server", 2),
        ("shards", 16),
        ("shards", 2),
        ("merge", 1),
    ]
    ids = [job["id"] for job in submission["jobs"]]
    assert submission["jobs"][1]["dependency"] == f"after:{ids[0]}_0?after:{ids[0]}_1"
    assert submission["jobs"][3]["dependency"] == f"afterany:{ids[1]}:{ids[2]}"
    cluster.wait_for_jobs(run, 400)
    result = merged(folder, "a")
    assert "partial" not in result and len(outcomes(result)) == 18
    assert len(keys(folder)) == len(set(keys(folder))) == 18
    for replica in (0, 1):
        assert "ready ws://" in (run / "logs" / f"server-{replica}.log").read_text()


def test_several_shards_share_a_task(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    submit(cluster, folder, "cluster.shards_per_task=2")
    run = folder / "results" / "a"
    shards = json.loads((run / "jobs.json").read_text())["submissions"][-1]["jobs"][1]
    assert shards["members"] == [[0, 1], [2]]
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected


def test_a_replica_dies_and_its_shards_move(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    submit(cluster, folder, "model.replicas=2", "benchmark.params.pace=0.3")
    run = folder / "results" / "a"
    server = cluster.jobs(run)["server"][0]
    cluster.wait(lambda: len(keys(folder)) >= 1, 90, "a first episode")
    cluster.output(f"scancel {server}_0")
    cluster.wait_for_jobs(run)
    assert outcomes(merged(folder, "a")) == expected
    assert sorted(keys(folder)) == sorted(expected)


def test_a_plain_sbatch_array(cluster: Cluster, folder: Path, expected: Outcomes) -> None:
    done = submit(cluster, folder, "submit=false")
    assert "nothing is started" in done.stdout
    scripts = cluster.checkout / "scripts"
    python = {"PYTHON": str(cluster.python)}
    serve = f"sbatch --parsable --partition=gpu --mem=2G --cpus-per-task=1 {scripts}/serve.sbatch results/a"
    server = cluster.output(serve, folder, **python)
    shards = f"sbatch --parsable --array=0-2 --mem=2G --dependency=after:{server} {scripts}/shards.sbatch results/a"
    array = cluster.output(shards, folder, **python)
    merge = f"sbatch --parsable --dependency=afterany:{array} --mem=1G {scripts}/merge.sbatch results/a"
    cluster.output(f"{merge} --wait", folder, **python)
    cluster.wait(lambda: (folder / "results/a/merged.json").exists(), 180, "the merge")
    assert outcomes(merged(folder, "a")) == expected
    cluster.wait(lambda: not cluster.output(f"squeue -h -j {server} -o %i || true"), 60, "the server's end")


def test_a_sweep_submits_every_point(cluster: Cluster, folder: Path) -> None:
    arguments = [a for a in toy(cluster, "model.params.chunk=1,2,3", "-m") if a != "run=a"]
    done = cluster.vlaeval(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("submitted: ") == 3
    runs = sorted((folder / "results").glob("pilot*"))
    assert len(runs) == 3
    for run in runs:
        cluster.wait_for_jobs(run)
        assert "partial" not in merged(folder, run.name)


def test_dry_run_shows_the_scripts_and_submits_nothing(cluster: Cluster, folder: Path) -> None:
    before = queued(cluster)
    done = submit(cluster, folder, "--dry-run", "+cluster.shard.nice=5")
    assert done.stdout.count("#!/bin/bash") == 3
    assert "#SBATCH --nice=5" in done.stdout and "#SBATCH --dependency=afterany:SHARDS" in done.stdout
    assert queued(cluster) <= before
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cluster.shard.partition=nowhere", ["cluster", "invalid partition"]),
        ("cluster.server.gres=gpu:3", ["cluster", "node configuration is not available"]),
        ("cluster.sbatch.account=nobody", ["cluster", "account"]),
        ("+cluster.shard.no_such_option=1", ["cluster", "no-such-option"]),
        ("results=/tmp/nowhere-near", ["results", "/tmp/nowhere-near", "compute nodes"]),
        ("+cluster.cpus=0", ["cluster.cpus", "cluster.shard.cpus_per_task"]),
        ("model.replicas=99", ["model.replicas=99", "16"]),
    ],
)
def test_refused_in_one_line_and_nothing_is_queued(
    cluster: Cluster, folder: Path, override: str, words: list[str]
) -> None:
    before = queued(cluster)
    done = cluster.vlaeval(folder, *toy(cluster, override))
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.fullmatch(r"error: .*\n", done.stderr), done.stderr
    for word in words:
        assert word in done.stderr
    assert queued(cluster) <= before
    assert not (folder / "results").exists()


def test_status_tells_jobs_server_and_shards(cluster: Cluster, folder: Path) -> None:
    submit(cluster, folder, "benchmark.params.pace=0.3")
    run = folder / "results" / "a"
    cluster.wait(lambda: len(keys(folder)) >= 1, 90, "a first episode")
    told = json.loads(cluster.vlaeval(folder, "status", "results/a", "--json").stdout)
    assert [job["kind"] for job in told["jobs"]] == ["server", "shards", "merge"]
    assert told["jobs"][0]["states"] == {"RUNNING": 1} and told["servers"][0]["job"] == told["jobs"][0]["id"]
    assert told["rate"] > 0 and told["seconds_left"] > 0
    shown = cluster.vlaeval(folder, "status", "results/a").stdout
    assert "episodes a minute" in shown and "server 0 on" in shown and "merge: 1 pending" in shown
    nowhere = cluster.vlaeval(folder, "status", "results/a", SLURM_CONF="/dev/null").stdout
    assert "from files alone" in nowhere and "shards:" in nowhere
    watched = cluster.vlaeval(folder, "status", "results/a", "--watch").stdout
    assert "6 of 6 episodes" in watched
    cluster.wait_for_jobs(run)
