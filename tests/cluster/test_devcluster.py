"""The one-machine cluster does what the other tests need of it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.conftest import BASE_IMAGE, DEVCLUSTER, Cluster


def test_status_says_that_everything_runs(cluster: Cluster) -> None:
    done = subprocess.run([str(DEVCLUSTER), "status"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "gpu:a100:2" in done.stdout


def test_a_second_up_changes_nothing(cluster: Cluster) -> None:
    records = {path: path.read_text() for path in Path("/var/lib/vlaeval-devcluster/run").glob("*.json")}
    done = subprocess.run([str(DEVCLUSTER), "up"], capture_output=True, text=True, timeout=120)
    if os.geteuid() == 0:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and "needs root" in done.stdout + done.stderr
    assert {path: path.read_text() for path in records} == records


def test_a_job_gets_the_gpus_that_it_asked_for(cluster: Cluster) -> None:
    command = "srun --partition gpu --gres gpu:2 bash -c 'echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'"
    assert cluster.output(command) == "gpu01 0,1"


def test_an_array_then_a_job_after_it_and_accounting_of_both(cluster: Cluster) -> None:
    array = cluster.output("sbatch --parsable --array 0-2 --output /dev/null --wrap 'exit $SLURM_ARRAY_TASK_ID'")
    cluster.output(f"sbatch --parsable --wait --output /dev/null --dependency afterany:{array} --wrap true")
    query = f"sacct -X -n -P -o jobid,state,exitcode,account -j {array}"
    for _ in range(50):
        if (told := cluster.output(query)).count("COMPLETED") + told.count("FAILED") == 3:
            break
        time.sleep(0.2)
    expected = [("COMPLETED", "0:0"), ("FAILED", "1:0"), ("FAILED", "2:0")]
    assert sorted(told.split()) == [f"{array}_{i}|{state}|{code}|robotics" for i, (state, code) in enumerate(expected)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--array 0-100000", "Invalid job array specification"),
        ("--partition nowhere", "invalid partition specified"),
        ("--account nobody", "Invalid account"),
        ("--partition gpu --gres gpu:3", "Requested node configuration is not available"),
    ],
)
def test_what_cannot_run_is_refused(cluster: Cluster, options: str, why: str) -> None:
    done = cluster.shell(f"sbatch {options} --wrap true")
    assert done.returncode != 0
    assert why in done.stderr


def test_a_container_in_a_job_sees_neither_home_nor_environment(cluster: Cluster) -> None:
    script = "import os, sys; print(sys.version_info[:2], os.environ.get('SECRET'), os.path.exists(os.environ['HOME']))"
    command = f'SECRET=1 srun singularity -q exec --containall --cleanenv --no-home {BASE_IMAGE} python3 -c "{script}"'
    assert cluster.output(command) == "(3, 11) None False"
