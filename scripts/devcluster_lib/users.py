"""The ordinary user that everything is tried as, and the folders it shares with the nodes."""

from __future__ import annotations

import pwd
import re
from pathlib import Path

from .layout import HOMES, SHARED, SRV
from .shell import Failure, folder, run, say

SUBORDINATE_IDS = 65536  # what an unprivileged `apptainer build` maps


def make_user(name: str) -> bool:
    """The user is there, with a home, subordinate ids and the shared results folder. Returns whether it was made."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", name) or name in ("root", "slurm", "munge"):
        raise Failure(f"--user {name}: not a name for an ordinary user, take lower case letters and digits")
    folder(SRV)
    folder(HOMES)
    made = not _exists(name)
    if made:
        say(f"making the user {name}")
        run(["useradd", "--create-home", "--home-dir", HOMES / name, "--shell", "/bin/bash", name])
    home = Path(pwd.getpwnam(name).pw_dir)
    if not home.exists():
        folder(home, owner=name)
    for file in ("/etc/subuid", "/etc/subgid"):
        _subordinate_ids(file, name)
    folder(SHARED, owner=name)
    return made


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _subordinate_ids(file: str, name: str) -> None:
    """The user has a range of subordinate ids; useradd gives one to those whom it makes on most machines."""
    with open(file, "a+") as handle:
        handle.seek(0)
        entries = [line.strip().split(":") for line in handle if line.count(":") == 2]
        if name not in (entry[0] for entry in entries):
            first = max((int(entry[1]) + int(entry[2]) for entry in entries), default=100000)
            handle.write(f"{name}:{first}:{SUBORDINATE_IDS}\n")
