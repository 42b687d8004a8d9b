"""Trackers: the real libraries, offline, told what a merge found, twice; and what goes wrong harms no merge."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Command, interpreter
from tests.toys import TOY, merged
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.results.tracking.record import metrics


@pytest.fixture(scope="session")
def trackers_python() -> Path:
    """What this package needs on the host, and every tracker: they disagree with ours over a version of pillow."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needs = setup["options"]["install_requires"].split()
    needs += [line for name in ("wandb", "mlflow", "trackio") for line in setup["options.extras_require"][name].split()]
    return interpreter(EnvironmentConfig(kind="venv", requirements=needs), "trackers", print)


def command(python: Path, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # No network: a library that asks for one fails at once.
    away = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(
        [str(python), "-m", "vlaeval_hpc", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder), "COLUMNS": "200", **away, **variables},
        capture_output=True,
        text=True,
        timeout=180,
    )


def read(python: Path, folder: Path, code: str) -> Any:
    """What a library itself reads of what it wrote."""
    variables = {"HOME": str(folder), "MLFLOW_ALLOW_FILE_STORE": "true", "TRACKIO_DIR": str(folder / "results/trackio")}
    text = subprocess.run(
        [str(python), "-c", code], cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert text.returncode == 0, text.stderr
    return json.loads(text.stdout.splitlines()[-1])


MLFLOW = """
import json
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri="file:results/mlruns")
(run,) = client.search_runs([client.get_experiment_by_name("p").experiment_id])
steps = [m.step for m in client.get_metric_history(run.info.run_id, "success")]
print(json.dumps([run.info.run_name, run.info.status, run.data.metrics, run.data.params, steps]))
"""

TRACKIO = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs("p")
rows = SQLiteStorage.get_logs("p", run.name)
print(json.dumps([run.name, [[r["step"], r["success"]] for r in rows]]))
"""

WANDB = """
import glob, json, struct
from wandb.proto import wandb_internal_pb2

def records(raw):  # LevelDB's log format, behind a header of 7 bytes
    position, parts = 7, b""
    while position + 7 <= len(raw):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, position)
        parts += raw[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # full, last
            yield parts
            parts = b""

found = []
for path in sorted(glob.glob("results/step-30/wandb/offline-run-*/*.wandb")):
    seen = {}
    for data in records(open(path, "rb").read()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("run") and record.run.run_id:
            seen |= {"id": record.run.run_id, "project": record.run.project, "name": record.run.display_name}
        if record.HasField("history"):
            items = record.history.item
            seen |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
    found.append(seen)
print(json.dumps(found))
"""


@pytest.mark.parametrize("tracker", ["mlflow", "trackio", "wandb"])
def test_every_merge_is_one_more_entry_of_one_run(trackers_python: Path, tmp_path: Path, tracker: str) -> None:
    (tmp_path / "step-30").write_text("weights")
    chosen = (f"tracking={tracker}", "tracking.project=p", "model.checkpoint=step-30", "run=step-30")
    done = command(trackers_python, tmp_path, *TOY, *chosen, "benchmark.params.tasks=1")
    assert done.returncode == 0 and "warning" not in done.stdout, done.stdout + done.stderr
    again = command(trackers_python, tmp_path, "merge", "results/step-30")
    assert again.returncode == 0 and "warning" not in again.stderr, again.stdout + again.stderr
    rate = merged(tmp_path, "step-30")["mean_success"]
    if tracker == "mlflow":
        name, status, values, params, steps = read(trackers_python, tmp_path, MLFLOW)
        assert (name, status, values["success"], steps) == ("step-30", "FINISHED", rate, [30, 30])
        assert values["task/task-0/success"] == rate and values["success_low"] < rate < values["success_high"]
        assert (values["episodes"], values["missing"], params["model"]) == (3, 0, "pilot")
    elif tracker == "trackio":
        name, rows = read(trackers_python, tmp_path, TRACKIO)
        assert name.startswith("step-30-") and rows == [[30, rate], [30, rate]]
    else:
        first, second = read(trackers_python, tmp_path, WANDB)
        assert first["id"] == second["id"] and (first["project"], first["name"]) == ("p", "step-30")
        assert (second["success"], second["training_step"], second["episodes"]) == (rate, 30, 3)


def test_what_goes_wrong_harms_no_merge(trackers_python: Path, tmp_path: Path) -> None:
    chosen = ("tracking=mlflow", "tracking.offline=false", "tracking.uri=no-such-scheme://nowhere", "run=a")
    done = command(trackers_python, tmp_path, *TOY, *chosen, "benchmark.params.tasks=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: tracking: " in done.stdout and "the merge itself is done" in done.stdout
    assert merged(tmp_path, "a")["num_episodes"] == 3


def test_a_tracker_that_is_not_there_is_told_before_anything_starts(vlaeval: Command, tmp_path: Path) -> None:
    done = vlaeval(*TOY, "tracking=wandbb")
    assert done.returncode == 2 and "unknown tracking 'wandbb': did you mean wandb" in done.stderr
    done = vlaeval(*TOY, "tracking.name=neptune")
    assert done.returncode == 2 and "unknown tracking 'neptune': valid: mlflow, none, trackio, wandb" in done.stderr
    assert not (tmp_path / "results").exists()


def test_names_are_those_that_every_tracker_takes() -> None:
    task = {"task": "put [it] in", "mean_success": 0.5, "mean_success_interval": [0.1, 0.9]}
    found = metrics({"metric_keys": {"success": "mean", "far": "max"}, "tasks": [task], "max_far": 3,
                     "num_episodes": 2, "num_errors": 1, "coverage": {"missing": 4}})  # fmt: skip
    assert found["task/put _it_ in/success"] == 0.5 and found["max_far"] == 3.0
    assert (found["episodes"], found["errors"], found["missing"]) == (2, 1, 4)
