"""Doctor on the one-machine cluster, as its ordinary user."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.conftest import Cluster


def test_the_cluster_has_what_it_takes(cluster: Cluster, folder: Path) -> None:
    done = cluster.vlaeval(folder, "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = {f["name"]: f for f in json.loads(done.stdout)}
    wanted = ("slurm", "job arrays", "requeue", "partitions", "accounting", "user namespaces", "apptainer", "fuse")
    assert {name: told[name]["state"] for name in wanted} == dict.fromkeys(wanted, "ok")
    assert "MaxArraySize 16" in told["job arrays"]["found"]
    assert "gpu 1-00:00:00: 1 node with gpu:a100:2" in told["partitions"]["found"]
    assert told["apptainer"]["found"].endswith("user namespaces")
    assert told["results writable"]["state"] == told["results clock"]["state"] == "ok"
    assert str(folder) in told["results folder"]["found"]
    assert not list(folder.iterdir())


def test_a_results_folder_that_nodes_do_not_see_is_told(cluster: Cluster, folder: Path) -> None:
    done = cluster.vlaeval(folder, "doctor", "--json", "--results", "/dev/shm/results")
    told = {f["name"]: f for f in json.loads(done.stdout)}
    assert told["results folder"]["state"] == "warning"
    assert "tmpfs at /dev/shm" in told["results folder"]["found"]
    denied = cluster.vlaeval(folder, "doctor", "--results", "/etc")
    assert denied.returncode == 1 and "Permission denied" in denied.stdout
