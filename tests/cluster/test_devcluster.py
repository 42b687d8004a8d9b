"""The one-machine cluster does what the other tests need of it. Needs `scripts/devcluster up`, as root or its user."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from pathlib import Path

import pytest

SETTINGS = Path("/var/lib/vlaeval-devcluster/etc/settings.json")
SHARED = Path("/srv/vlaeval-devcluster/shared")
BASE_IMAGE = Path("/srv/vlaeval-devcluster/images/bookworm-python3.sif")
DEVCLUSTER = Path(__file__).parents[2] / "scripts" / "devcluster"


def as_user(command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command as the cluster's ordinary user, in its home."""
    user = json.loads(SETTINGS.read_text())["user"]
    if pwd.getpwuid(os.geteuid()).pw_name == user:
        argv = ["bash", "-lc", f"cd && {command}"]
    else:
        argv = ["runuser", "-l", user, "-c", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120)


def output(command: str) -> str:
    done = as_user(command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_status_says_that_everything_runs() -> None:
    done = subprocess.run([str(DEVCLUSTER), "status"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "gpu:a100:2" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_second_up_changes_nothing() -> None:
    records = {path: path.read_text() for path in Path("/var/lib/vlaeval-devcluster/run").glob("*.json")}
    began = time.monotonic()
    subprocess.run([str(DEVCLUSTER), "up"], check=True, capture_output=True, timeout=120)
    assert time.monotonic() - began < 30
    assert {path: path.read_text() for path in records} == records


def test_a_job_gets_the_gpus_that_it_asked_for() -> None:
    command = "srun --partition gpu --gres gpu:2 bash -c 'echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'"
    assert output(command) == "gpu01 0,1"


def test_an_array_then_a_job_after_it_and_accounting_of_both() -> None:
    array = output("sbatch --parsable --array 0-2 --output /dev/null --wrap 'exit $SLURM_ARRAY_TASK_ID'")
    output(f"sbatch --parsable --wait --output /dev/null --dependency afterany:{array} --wrap true")
    query = f"sacct -X -n -P -o jobid,state,exitcode,account -j {array}"
    for _ in range(50):
        if (told := output(query)).count("COMPLETED") + told.count("FAILED") == 3:
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
def test_what_cannot_run_is_refused(options: str, why: str) -> None:
    done = as_user(f"sbatch {options} --wrap true")
    assert done.returncode != 0
    assert why in done.stderr


@pytest.mark.skipif(not BASE_IMAGE.exists(), reason="run `sudo scripts/devcluster base-image` first")
def test_a_container_in_a_job_sees_neither_home_nor_environment() -> None:
    script = "import os, sys; print(sys.version_info[:2], os.environ.get('SECRET'), os.path.exists(os.environ['HOME']))"
    command = f'SECRET=1 srun singularity -q exec --containall --cleanenv --no-home {BASE_IMAGE} python3 -c "{script}"'
    assert output(command) == "(3, 11) None False"
