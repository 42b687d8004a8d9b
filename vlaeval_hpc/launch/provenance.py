"""provenance.json: enough to know, in a year, what a number came from."""

from __future__ import annotations

import functools
import platform
import shlex
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from vlaeval_hpc import __version__
from vlaeval_hpc.config.plugins import plugins
from vlaeval_hpc.launch.evaluation import Evaluation
from vlaeval_hpc.launch.runtime import Runtime
from vlaeval_hpc.run.files import SCHEMA

HOST_PACKAGES = ("hydra-core", "omegaconf", "submitit", "websockets", "numpy", "msgpack")


def provenance(command: list[str], evaluation: Evaluation) -> dict[str, Any]:
    """Command line, versions, git state, images' digests, checkpoint hashes, host and time, as plain values."""
    return {
        "schema": SCHEMA,
        "command": shlex.join(command),
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "vlaeval_hpc": __version__,
        "git": _git_state(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in HOST_PACKAGES},
        **({"plugins": {p.package: f"{p.distribution} {p.version}" for p in plugins()}} if plugins() else {}),
        "environments": {name: _environment(runtime) for name, runtime in evaluation.runtimes.items()},
        "checkpoint": evaluation.checkpoint,
        **({"checkpoint_source": evaluation.source._asdict()} if evaluation.source.source else {}),
        "host": socket.gethostname(),
        "platform": platform.platform(),
    }


def _environment(runtime: Runtime) -> dict[str, Any]:
    if runtime.image is not None:
        return {"image": str(runtime.image.path), "source": runtime.image.source, "digest": runtime.image.digest}
    return {"python": runtime.python, "packages": _packages(Path(runtime.python))}


@functools.cache
def _git_state() -> dict[str, Any] | None:
    """The commit of the checkout that the code runs from, and whether it differs; None when installed."""
    folder = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "modified": bool(changes.strip())}


@functools.cache
def _packages(python: Path) -> list[str]:
    """What an environment holds, name-version, from the folders that installers leave."""
    found = python.parent.parent.glob("lib/python*/site-packages/*.dist-info")
    return sorted(p.name.removesuffix(".dist-info") for p in found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
