"""Slurm with accounting on this machine: its configuration, its start, its accounts, and what it says of itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import string
from dataclasses import dataclass
from pathlib import Path

from . import daemons
from .layout import (
    ACCOUNT,
    ACCOUNTING_CONF,
    ACCOUNTING_PORT,
    CLUSTER,
    CONTROLLER,
    CONTROLLER_PORT,
    DATABASE,
    DATABASE_CONF,
    DATABASE_SOCKET,
    ETC,
    GPUS,
    GRES_CONF,
    LOG,
    MUNGE,
    MUNGE_SOCKET,
    NODE_PORTS,
    NODES,
    OTHER_ACCOUNT,
    OTHER_QOS,
    REGISTRY,
    REGISTRY_CONF,
    REGISTRY_PORT,
    RUN,
    SLURM_CONF,
    SPOOL,
    STATE,
    SYSTEM_SLURM_CONF,
)
from .processes import is_ours, running, start
from .shell import Failure, folder, link, run, say, wait_until, write

TEMPLATES = Path(__file__).parent / "templates"
READY_STATES = ("idle", "mixed", "allocated", "completing")

_DATABASE_SQL = """
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED VIA unix_socket;
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
"""


@dataclass(frozen=True)
class Node:
    """What Slurm says about a node, or about its part in a partition."""

    name: str
    partition: str
    state: str
    cpus: str
    memory: str
    gres: str


def refuse_foreign() -> None:
    """Failure if this machine has, or runs, a Slurm that is not ours. A foreign munge or MariaDB is in nobody's way."""
    if os.path.lexists(SYSTEM_SLURM_CONF) and not _links_to_ours(SYSTEM_SLURM_CONF):
        raise Failure(f"{SYSTEM_SLURM_CONF} is not ours: there is a Slurm on this machine, take another one")
    foreign = [f"{name} (pid {pid})" for pid, name in running("slurmctld", "slurmdbd", "slurmd") if not is_ours(pid)]
    if foreign:
        raise Failure(f"a Slurm that is not ours runs here: {', '.join(foreign)}; take another machine or a container")


def configure(max_array_size: int) -> None:
    """Every folder and configuration file is there, as the templates say. Idempotent."""
    for path in (STATE, ETC, RUN, LOG, SPOOL, GPUS):
        folder(path)
    folder(MUNGE, owner="munge")
    folder(CONTROLLER, owner="slurm", mode=0o700)
    folder(DATABASE, owner="slurm", mode=0o700)
    for node in NODES:
        folder(SPOOL / node)
    for number in (0, 1):
        link(GPUS / f"nvidia{number}", Path("/dev/null"))
    if not (MUNGE / "munge.key").exists():
        write(MUNGE / "munge.key", os.urandom(512).hex(), owner="munge", mode=0o400)

    values = _template_values(max_array_size)
    write(SLURM_CONF, _render("slurm.conf", values))
    write(GRES_CONF, _render("gres.conf", values))
    write(ACCOUNTING_CONF, _render("slurmdbd.conf", values), owner="slurm", mode=0o600)
    write(DATABASE_CONF, _render("mariadb.cnf", values))
    link(SYSTEM_SLURM_CONF, SLURM_CONF)


def configure_registry() -> None:
    """The registry's configuration and storage are there. Idempotent."""
    folder(REGISTRY, owner="docker-registry", mode=0o700)
    write(REGISTRY_CONF, _render("registry.yml", {"registry": str(REGISTRY), "registry_port": str(REGISTRY_PORT)}))


def bring_up(user: str) -> bool:
    """Start what does not run, in order, with accounts for the user. Returns whether anything had to be started."""
    if not (DATABASE / "mysql").is_dir():
        say("making an accounting database")
        run(["mariadb-install-db", f"--defaults-file={DATABASE_CONF}", "--user=slurm", "--skip-test-db"])
    started = [start(daemons.munge()), start(daemons.database())]
    run(["mariadb", f"--socket={DATABASE_SOCKET}", "--user=root"], stdin=_DATABASE_SQL)
    started.append(start(daemons.accounting()))
    _register(user)
    started.append(start(daemons.controller()))
    started.extend(start(daemons.slurmd(name)) for name in NODES)
    _resume_nodes()
    if not wait_until(lambda: not unready_nodes(), 60):
        reasons = "; ".join(run(["sinfo", "-R", "-h", "-o", "%n %E"]).splitlines()) or "no reason given"
        raise Failure(f"nodes are not ready: {', '.join(unready_nodes())} ({reasons}); see {LOG}/steps-*.log")
    return any(started)


def nodes() -> list[Node]:
    """Every node of every partition."""
    lines = run(["sinfo", "-h", "-N", "-o", "%N|%R|%T|%c|%m|%G"], timeout=20).splitlines()
    return [Node(*line.split("|")) for line in lines]


def unready_nodes() -> list[str]:
    """Those that take no job now, `name=state`; all of them where slurmctld does not answer."""
    try:
        states = {node.name: node.state for node in nodes()}
    except Failure:
        return [f"{name}=unknown" for name in NODES]
    return [f"{name}={states.get(name, 'absent')}" for name in NODES if states.get(name) not in READY_STATES]


def cancel_all() -> None:
    """Cancel every job and wait until their processes are gone, for no longer than Slurm itself would."""
    jobs = sorted(set(run(["squeue", "-h", "-o", "%F"]).split()))
    if jobs:
        say(f"cancelling {len(jobs)} jobs")
        run(["scancel", *jobs])
        wait_until(lambda: not run(["squeue", "-h", "-o", "%i"]).strip(), 20)


def remove_state() -> None:
    """Forget the cluster: configuration, keys, jobs, accounting, the registry's images."""
    if _links_to_ours(SYSTEM_SLURM_CONF):
        SYSTEM_SLURM_CONF.unlink()
    shutil.rmtree(STATE, ignore_errors=True)


def _register(user: str) -> None:
    """The accounting knows the cluster, two accounts and a second QOS, and the user may use them. Idempotent."""
    known = set(run(["sacctmgr", "-n", "-P", "list", "cluster", "format=cluster"]).split())
    if CLUSTER not in known:
        run(["sacctmgr", "-i", "add", "cluster", CLUSTER])
    if OTHER_QOS not in run(["sacctmgr", "-n", "-P", "list", "qos", "format=name"]).split():
        run(["sacctmgr", "-i", "add", "qos", OTHER_QOS])
    accounts = run(["sacctmgr", "-n", "-P", "list", "account", "format=account"]).split()
    for account in (ACCOUNT, OTHER_ACCOUNT):
        if account not in accounts:
            run(["sacctmgr", "-i", "add", "account", account, f"qos=normal,{OTHER_QOS}"])
    associations = run(["sacctmgr", "-n", "-P", "list", "association", f"user={user}", "format=account"]).split()
    for account in (ACCOUNT, OTHER_ACCOUNT):
        if account not in associations:
            run(["sacctmgr", "-i", "add", "user", user, f"account={account}", f"defaultaccount={ACCOUNT}"])


def _resume_nodes() -> None:
    """Nodes that somebody drained or set down take jobs again."""
    for name, _, state in (entry.partition("=") for entry in unready_nodes()):
        if state.startswith(("drain", "down")):
            with contextlib.suppress(Failure):  # it came back by itself meanwhile
                run(["scontrol", "update", f"nodename={name}", "state=resume"])


def _links_to_ours(path: Path) -> bool:
    return path.is_symlink() and path.readlink() == SLURM_CONF


def _template_values(max_array_size: int) -> dict[str, str]:
    cpu_ports = [str(port) for name, port in NODE_PORTS.items() if name.startswith("cpu")]
    return {
        "cluster": CLUSTER,
        "host": os.uname().nodename.split(".")[0],
        "controller_port": str(CONTROLLER_PORT),
        "accounting_port": str(ACCOUNTING_PORT),
        "gpu_port": str(NODE_PORTS["gpu01"]),
        "cpu_ports": f"[{cpu_ports[0]}-{cpu_ports[-1]}]",
        "munge_socket": str(MUNGE_SOCKET),
        "controller": str(CONTROLLER),
        "spool": str(SPOOL),
        "run": str(RUN),
        "log": str(LOG),
        "gpus": str(GPUS),
        "database": str(DATABASE),
        "database_socket": str(DATABASE_SOCKET),
        "max_array_size": str(max_array_size),
    }


def _render(name: str, values: dict[str, str]) -> str:
    return string.Template((TEMPLATES / name).read_text()).substitute(values)
