"""The daemons of the cluster: how each one starts in the foreground, and how to know that it serves."""

from __future__ import annotations

import urllib.request

from .layout import (
    ACCOUNTING_CONF,
    ACCOUNTING_PORT,
    CONTROLLER_PORT,
    DATABASE_CONF,
    DATABASE_SOCKET,
    GRES_CONF,
    MUNGE,
    MUNGE_SOCKET,
    NODE_PORTS,
    NODES,
    REGISTRY_CONF,
    REGISTRY_PORT,
    SLURM_CONF,
)
from .processes import Daemon
from .shell import Failure, run


def core_daemons() -> list[Daemon]:
    """All but the registry, in the order they start; they end in the opposite one."""
    return [munge(), database(), accounting(), controller(), *(slurmd(name) for name in NODES)]


def munge() -> Daemon:
    files = [f"--{what}-file={MUNGE / name}" for what, name in (("key", "munge.key"), ("pid", "pid"), ("seed", "seed"))]
    return Daemon(
        name="munged",
        argv=("munged", "--foreground", f"--socket={MUNGE_SOCKET}", *files, "--num-threads=4"),
        user="munge",
        probe=lambda: run(["munge", "-n", "-S", MUNGE_SOCKET], timeout=20),
    )


def database() -> Daemon:
    return Daemon(
        name="mariadbd",
        argv=("mariadbd", f"--defaults-file={DATABASE_CONF}"),
        user="slurm",
        config=(DATABASE_CONF,),
        for_root=True,
        probe=lambda: run(["mariadb", f"--socket={DATABASE_SOCKET}", "--user=root", "-e", "SELECT 1"], timeout=20),
        seconds=60,
    )


def accounting() -> Daemon:
    return Daemon(
        name="slurmdbd",
        argv=("slurmdbd", "-D"),
        user="slurm",
        env={"MYSQL_UNIX_PORT": str(DATABASE_SOCKET)},
        config=(ACCOUNTING_CONF,),
        port=ACCOUNTING_PORT,
        probe=lambda: run(["sacctmgr", "-n", "list", "cluster"], timeout=20),
        seconds=60,
    )


def controller() -> Daemon:
    return Daemon(
        name="slurmctld",
        argv=("slurmctld", "-D", "-f", str(SLURM_CONF)),
        user="slurm",
        config=(SLURM_CONF, GRES_CONF),
        port=CONTROLLER_PORT,
        probe=lambda: run(["scontrol", "show", "partition"], timeout=20),
    )


def slurmd(name: str) -> Daemon:
    return Daemon(
        name=f"slurmd@{name}",
        argv=("slurmd", "-D", "-N", name, "-f", str(SLURM_CONF)),
        config=(SLURM_CONF, GRES_CONF),
        port=NODE_PORTS[name],
        probe=lambda: None,  # all nodes together are asked for once, by bring_up
    )


def registry() -> Daemon:
    return Daemon(
        name="docker-registry",
        argv=("docker-registry", "serve", str(REGISTRY_CONF)),
        user="docker-registry",
        config=(REGISTRY_CONF,),
        port=REGISTRY_PORT,
        probe=ask_registry,
    )


def ask_registry() -> None:
    """Failure if the registry does not speak its protocol on its port."""
    address = f"127.0.0.1:{REGISTRY_PORT}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(f"http://{address}/v2/", timeout=5).close()
    except OSError as error:
        raise Failure(f"no registry answers on {address} ({error}): sudo scripts/devcluster up --registry") from error
