"""The command line of `scripts/devcluster`."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from . import apptainer, cluster, daemons, images, packages, status, users
from .layout import ETC, SHARED, STATE
from .processes import kill_strays, start, stop
from .shell import Failure, say, write

SETTINGS = ETC / "settings.json"
DEFAULTS: dict[str, str | int] = {"user": "vlaeval", "max_array_size": 16}
LOCK = Path("/run/lock/vlaeval-devcluster")


def main() -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args()
    try:
        if arguments.verb == "status":
            return 0 if status.show(registry=arguments.registry) else 1
        if os.geteuid() != 0:
            raise Failure(f"`{arguments.verb}` needs root: sudo scripts/devcluster {arguments.verb}")
        with _alone():
            verb = {"up": _up, "down": _down, "base-image": _base_image}[arguments.verb]
            verb(arguments)
    except Failure as failure:
        say(str(failure))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devcluster", description="A Slurm cluster on this one machine.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="up|down|status|base-image")

    up = verbs.add_parser("up", help="install and start what is missing; a second time changes nothing")
    up.add_argument("--user", help="the ordinary user to make and to give accounts (vlaeval)")
    up.add_argument("--max-array-size", type=int, metavar="N", help="MaxArraySize: highest index plus 1 (16)")
    up.add_argument("--registry", action="store_true", help="an image registry too, on the loopback interface")

    down = verbs.add_parser("down", help="cancel all jobs and end what `up` started, and nothing else")
    down.add_argument("--registry", action="store_true", help="end the registry only")
    down.add_argument("--purge", action="store_true", help=f"also remove {STATE}: accounting, pushed images")

    show = verbs.add_parser("status", help="nodes, partitions, versions; fails if something is down")
    show.add_argument("--registry", action="store_true", help="a registry that does not run counts as down")

    base = verbs.add_parser("base-image", help="make a bookworm image with Python, and print its path")
    base.add_argument("--rebuild", action="store_true", help="make it again, with today's packages")
    base.add_argument("--push", action="store_true", help="also put it into the registry, and print that address too")
    return parser


def _up(arguments: argparse.Namespace) -> None:
    """Install, configure and start what is missing."""
    began = time.monotonic()
    settings = _settings(arguments)
    cluster.refuse_foreign()
    packages.install(*packages.SLURM, *packages.FOR_USERS)
    apptainer.install()
    users.make_user(str(settings["user"]))
    cluster.configure(int(settings["max_array_size"]))
    write(SETTINGS, json.dumps(settings) + "\n")
    started = cluster.bring_up(str(settings["user"]))
    if arguments.registry:
        packages.install(*packages.REGISTRY)
        cluster.configure_registry()
        started = start(daemons.registry()) or started
    what = f"{'up' if started else 'was up already'} ({time.monotonic() - began:.0f} s)"
    say(f"{what}; shared folder {SHARED}; try: runuser -l {settings['user']} -c 'srun hostname'")


def _down(arguments: argparse.Namespace) -> None:
    """End what `up` started."""
    if not arguments.registry and daemons.controller().pid() is not None:
        try:
            cluster.cancel_all()
        except Failure as failure:
            say(f"jobs were not cancelled ({failure}), their processes are killed")
    doomed = [daemons.registry()] if arguments.registry else [*daemons.core_daemons(), daemons.registry()]
    ended = [daemon.name for daemon in reversed(doomed) if stop(daemon)]
    if not arguments.registry:
        kill_strays()
    if arguments.purge:
        cluster.remove_state()
    say(f"ended {', '.join(ended)}" if ended else "nothing ran")


def _base_image(arguments: argparse.Namespace) -> None:
    """Print where the base image is, made if needed; --push prints the registry's address of it too."""
    apptainer.install()
    image = images.base_image(rebuild=arguments.rebuild)
    print(image)
    if arguments.push:
        daemons.ask_registry()
        print(images.push(image))


def _settings(arguments: argparse.Namespace) -> dict[str, str | int]:
    """What this cluster was made with: flags first, then what an earlier `up` was given, then the defaults."""
    settings = dict(DEFAULTS)
    if SETTINGS.exists():
        settings.update(json.loads(SETTINGS.read_text()))
    settings.update({name: value for name in DEFAULTS if (value := getattr(arguments, name)) is not None})
    if int(settings["max_array_size"]) < 2:
        raise Failure(f"--max-array-size {settings['max_array_size']}: Slurm takes 2 or more")
    return settings


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One devcluster command at a time; a second one waits."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another devcluster command to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
