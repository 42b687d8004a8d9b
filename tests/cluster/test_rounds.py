"""Jobs that end before the work is done: the merge submits what is open once more, where that is worth it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.conftest import Cluster
from tests.cluster.test_jobs import keys, submit
from tests.toys import merged, outcomes


def decided(run: Path) -> list[str]:
    return [d["decision"] for d in json.loads((run / "decisions.json").read_text())]


def test_out_of_memory_gets_more(cluster: Cluster, folder: Path) -> None:
    """The simulator needs 700 MB, and the job asks for 300: Slurm kills it, twice."""
    few = ("cluster.shards=1", "benchmark.params.tasks=1", "benchmark.episodes_per_task=2")
    submit(cluster, folder, *few, "cluster.shard.mem=300M", "+benchmark.params.hungry=700", "benchmark.params.pace=0.8")
    run = folder / "results" / "a"
    cluster.wait_for_jobs(run)
    result = merged(folder, "a")
    assert "partial" not in result and len(outcomes(result)) == 2
    first, _, second, _ = decided(run)
    assert (first, second) == ("shards get mem=600M", "shards get mem=1200M")
    submissions = json.loads((run / "jobs.json").read_text())["submissions"]
    asked = [(run / s["jobs"][1]["script"]).read_text() for s in submissions]
    assert ["--mem=300M" in asked[0], "--mem=600M" in asked[1], "--mem=1200M" in asked[2]] == [True] * 3


def test_what_jobs_left_open_is_submitted_again_by_the_merge(cluster: Cluster, folder: Path) -> None:
    """All shards are killed after an episode; nobody types anything. What waits for the merge waits for the next."""
    submit(cluster, folder, "benchmark.params.pace=0.4")
    run = folder / "results" / "a"
    ids = cluster.jobs(run)
    after = cluster.output(
        f"sbatch --parsable --output=/dev/null --dependency=afterany:{ids['merge'][0]} --wrap"
        f" 'cp {run}/merged.json {folder}/seen.json'"
    )
    cluster.wait(lambda: len(keys(folder)) >= 1, 90, "a first episode")
    cluster.output(f"pkill -KILL -f '[b]ootstrap.py vlaeval_hpc.worker {run} '")
    cluster.wait_for_jobs(run)
    assert "partial" not in merged(folder, "a") and len(keys(folder)) == len(set(keys(folder))) == 6
    (decision,) = decided(run)
    assert decision.startswith("submitted again as ")
    assert "submitted again (1 of 3 times)" in (run / "logs" / "merge.log").read_text()
    cluster.wait(lambda: not cluster.output(f"squeue -h -j {after} -o %i 2>/dev/null || true"), 60, "who waits")
    assert "partial" not in json.loads((folder / "seen.json").read_text())


def test_what_somebody_cancelled_stays_so(cluster: Cluster, folder: Path) -> None:
    submit(cluster, folder, "benchmark.params.pace=0.4")
    run = folder / "results" / "a"
    cluster.wait(lambda: len(keys(folder)) >= 1, 90, "a first episode")
    cluster.output(f"scancel {cluster.jobs(run)['shards'][0]}")
    cluster.wait_for_jobs(run)
    assert merged(folder, "a")["partial"] is True
    assert len(json.loads((run / "jobs.json").read_text())["submissions"]) == 1
    assert "not submitted again: jobs were cancelled" in (run / "logs" / "merge.log").read_text()
