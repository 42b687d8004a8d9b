"""What runs: for people, and as an exit status for scripts."""

from __future__ import annotations

import os

from . import apptainer, cluster, daemons
from .layout import IMAGES, REGISTRY_PORT, SHARED
from .processes import Daemon
from .shell import Failure, run


def show(*, registry: bool) -> bool:
    """Print daemons, nodes, partitions and versions. Returns whether everything is as it should be."""
    wanted = daemons.core_daemons()
    with_registry = registry or daemons.registry().record.exists()
    if with_registry:
        wanted.append(daemons.registry())
    problems = _daemons(wanted)
    if daemons.controller().pid() is not None:
        problems += _slurm()
    problems += _apptainer()
    print(f"shared folder  {SHARED}")
    print(f"images         {IMAGES}")
    if with_registry:
        print(f"registry       127.0.0.1:{REGISTRY_PORT}")
    for problem in problems:
        print(f"DOWN           {problem}: `devcluster up` starts what is missing")
    return not problems


def _daemons(wanted: list[Daemon]) -> list[str]:
    """Print which daemons run; returns what is wrong."""
    problems = []
    for daemon in wanted:
        pid = daemon.pid()
        print(f"{daemon.name:17}{'down' if pid is None else f'running, pid {pid}'}")
        if pid is None:
            problems.append(f"{daemon.name} does not run")
            continue
        if daemon.for_root and os.geteuid() != 0:
            continue
        try:
            daemon.probe()
        except Failure as failure:
            problems.append(f"{daemon.name} does not answer ({failure})")
    return problems


def _slurm() -> list[str]:
    """Print nodes, partitions and accounting; returns what is wrong."""
    try:
        nodes = cluster.nodes()
        version = run(["sinfo", "--version"]).strip()
        size = [line.split()[-1] for line in run(["scontrol", "show", "config"]).splitlines() if "MaxArraySize" in line]
    except Failure as failure:
        return [f"slurmctld ({failure})"]
    print(f"\n{version}, MaxArraySize {size[0]}")
    print(f"{'NODE':8}{'PARTITION':12}{'STATE':12}{'CPUS':>5}{'MEMORY':>8}  GRES")
    for node in nodes:
        print(f"{node.name:8}{node.partition:12}{node.state:12}{node.cpus:>5}{node.memory:>8}  {node.gres}")
    print()
    return [f"node {node}" for node in cluster.unready_nodes()]


def _apptainer() -> list[str]:
    try:
        print(f"Apptainer      {apptainer.version()}")
    except Failure as failure:
        return [f"apptainer ({failure})"]
    return []
