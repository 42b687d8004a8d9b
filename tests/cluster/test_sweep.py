"""A sweep as jobs: the one that comes after all merges, and what becomes of points that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster.conftest import Cluster
from tests.cluster.test_jobs import SLURM

SWEEP = ("model=pilot", "benchmark=toy", "run=s", *SLURM, "cluster.shards=2", "-m")


def toy(cluster: Cluster, *more: str) -> list[str]:
    return ["--config-dir", str(cluster.checkout / "tests" / "conf"), *SWEEP, *more]


def found(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "results/sweeps/s/sweep.json").read_text())
    return result


def test_a_job_after_all_merges_writes_the_sweep(cluster: Cluster, folder: Path) -> None:
    """A checkpoint that is not there is a failed point; jobs that are there already are waited for, not doubled."""
    cluster.output("mkdir -p ckpt && echo 1 > ckpt/step-100 && echo 2 > ckpt/step-20", folder)
    arguments = toy(cluster, "model.checkpoint=ckpt/step-100,ckpt/step-20,ckpt/step-7", "benchmark.params.pace=0.2")
    done = cluster.vlaeval(folder, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: step-7: model.checkpoint: ckpt/step-7: no such file" in done.stdout
    assert "by job" in done.stdout and "after 2 merges" in done.stdout
    root = folder / "results" / "sweeps" / "s"
    assert [(p["label"], p["step"], p["state"]) for p in found(folder)["points"]] == [
        ("step-7", 7, "failed"),
        ("step-20", 20, "waiting"),
        ("step-100", 100, "waiting"),
    ]
    job = json.loads((root / "jobs.json").read_text())["submissions"][0]["jobs"][0]
    runs = [(root / p["run"]).resolve() for p in found(folder)["points"][1:]]
    merges = [cluster.jobs(run)["merge"][0] for run in runs]
    assert job["dependency"] == f"afterany:{':'.join(merges)}"

    again = cluster.vlaeval(folder, *arguments)
    assert again.stdout.count("its jobs are queued or running already") == 2, again.stdout + again.stderr
    assert all(len(json.loads((run / "jobs.json").read_text())["submissions"]) == 1 for run in runs)
    cluster.wait_for_jobs(root)
    result = found(folder)
    assert [p["state"] for p in result["points"]] == ["failed", "done", "done"]
    assert [p["n"] for p in result["points"]] == [0, 6, 6]
    assert result["neighbours"][0]["from"] == "step-20" and len(result["letters"]) == 2
    assert "to finish step-7: python -m vlaeval_hpc resume" in (root / "sweep.log").read_text()
    ask = f"sacct -X -n -P -o state -j {job['id']}"
    cluster.wait(lambda: cluster.output(ask) == "COMPLETED", 30, "the sweep's job in the accounting")

    cluster.output("echo 3 > ckpt/step-7", folder)
    done = cluster.vlaeval(folder, "resume", "results/sweeps/s")
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.wait_for_jobs(root)
    assert [p["state"] for p in found(folder)["points"]] == ["done"] * 3


def test_cancel_takes_all_of_a_sweep(cluster: Cluster, folder: Path) -> None:
    done = cluster.vlaeval(folder, *toy(cluster, "model.params.chunk=1,2", "benchmark.params.pace=2"))
    assert done.returncode == 0, done.stdout + done.stderr
    status = json.loads(cluster.output(f"{cluster.python} -m vlaeval_hpc status results/sweeps/s --json", folder))
    assert status["jobs"] and {p["label"] for p in status["points"]} == {"1", "2"}
    done = cluster.vlaeval(folder, "cancel", "results/sweeps/s")
    assert done.returncode == 0 and len(done.stdout.split(",")) == 7, done.stdout + done.stderr
    for run in [folder / "results/sweeps/s", *(folder / "results").glob("pilot*")]:
        cluster.wait_for_jobs(run, 60)


def test_points_that_are_clearly_worse_are_not_submitted_again(cluster: Cluster, folder: Path) -> None:
    """Each look is a job that goes on with the others; the second submission has one point less."""
    half = ("benchmark.params.tasks=20", "benchmark.episodes_per_task=2", "sweep.stop=early")
    done = cluster.vlaeval(folder, *toy(cluster, "model.params.fault='','nan'", *half))
    assert done.returncode == 0, done.stdout + done.stderr
    root = folder / "results" / "sweeps" / "s"
    assert found(folder)["points"][0]["state"] in ("waiting", "partial")
    cluster.wait(lambda: json.loads((root / "points.json").read_text())["looks"] == 6, 240, "the last look")
    cluster.wait_for_jobs(root)
    result = found(folder)
    assert [(p["label"], p["state"], p["n"]) for p in result["points"]] == [("''", "done", 40), ("nan", "stopped", 20)]
    runs = [(root / p["run"]).resolve() for p in result["points"]]
    assert [len(json.loads((r / "jobs.json").read_text())["submissions"]) for r in runs] == [2, 1]
    assert "nan: clearly worse than another, stopped after 20 episodes" in (root / "sweep.log").read_text()
