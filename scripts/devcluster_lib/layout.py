"""Where the cluster lives on the machine, and what it is called. Nothing here touches the machine."""

from __future__ import annotations

import os
from pathlib import Path

CLUSTER = "devcluster"

STATE = Path("/var/lib/vlaeval-devcluster")  # configuration, database, keys, logs: all that `down --purge` removes
OPT = Path("/opt/vlaeval-devcluster")  # Apptainer, where the machine has none
SRV = Path("/srv/vlaeval-devcluster")  # what the ordinary user sees

ETC = STATE / "etc"
LOG = STATE / "log"
RUN = STATE / "run"
MUNGE = STATE / "munge"
MUNGE_SOCKET = MUNGE / "munge.socket"
DATABASE = STATE / "mariadb"
DATABASE_SOCKET = DATABASE / "socket"
CONTROLLER = STATE / "slurmctld"
SPOOL = STATE / "slurmd"
GPUS = STATE / "gpus"
REGISTRY = STATE / "registry"

SLURM_CONF = ETC / "slurm.conf"
GRES_CONF = ETC / "gres.conf"
ACCOUNTING_CONF = ETC / "slurmdbd.conf"
DATABASE_CONF = ETC / "mariadb.cnf"
REGISTRY_CONF = ETC / "registry.yml"
SYSTEM_SLURM_CONF = Path("/etc/slurm/slurm.conf")  # where every Slurm command looks; a link to SLURM_CONF
SHARED = SRV / "shared"
HOMES = SRV / "home"
IMAGES = SRV / "images"

CONTROLLER_PORT = 17100
ACCOUNTING_PORT = 17110
REGISTRY_PORT = 17120
NODE_PORTS = {"gpu01": 17101, "cpu01": 17102, "cpu02": 17103, "cpu03": 17104, "cpu04": 17105}
NODES = tuple(NODE_PORTS)

ACCOUNT = "robotics"  # the user's default account
OTHER_ACCOUNT = "teaching"  # a second one that the user may name
OTHER_QOS = "long"  # beside `normal`, which every Slurm has

MARKER = ("VLAEVAL_DEVCLUSTER", str(STATE))  # in the environment of every process that `up` starts
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def cache() -> Path:
    """What is slow to fetch or make is kept here, by content; it may be deleted at any time."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vlaeval-devcluster"
