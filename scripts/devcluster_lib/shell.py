"""Running commands, writing files, waiting: the small verbs that every other module uses."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .layout import MARKER, SLURM_CONF, SYSTEM_PATH

PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class Failure(Exception):
    """Something a person has to act on: one line that says what was wrong and what to do."""


def say(text: str) -> None:
    """Tell the person what is going on."""
    print(f"devcluster: {text}", file=sys.stderr, flush=True)


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of everything that is started here: nothing of the caller's shell, and our marker."""
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "SLURM_CONF": str(SLURM_CONF), MARKER[0]: MARKER[1], **extra}


def proxies() -> dict[str, str]:
    """The caller's proxy settings: the one thing of its environment that commands get, for apt may need them."""
    return {name: value for name, value in os.environ.items() if name.lower() in PROXIES}


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    timeout: float = 900,
) -> str:
    """Run a command in a clean environment and return what it printed; Failure names the command and why it failed."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env=clean_environment(**proxies(), **(env or {})),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=cwd,
            user=user,
            timeout=timeout,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise Failure(f"{words[0]} is not on this machine: run `devcluster up` to install it") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"`{' '.join(words[:6])}` did not end within {timeout:g} s") from error
    if done.returncode:
        raise Failure(f"`{' '.join(words[:6])}` failed ({done.returncode}): {reason(done.stderr or done.stdout)}")
    return done.stdout


def reason(text: str) -> str:
    """The line that says what was wrong: the first that calls itself an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line.lower()), lines[-1] if lines else "it printed nothing")


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Ask until it is so; False after that many seconds."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def folder(path: Path, *, owner: str = "root", mode: int = 0o755) -> None:
    """The folder exists with this owner and mode. Idempotent."""
    path.mkdir(parents=True, exist_ok=True)
    give(path, owner, mode)


def write(path: Path, text: str, *, owner: str = "root", mode: int = 0o644) -> None:
    """The file has this content, owner and mode, replaced atomically. Idempotent."""
    if path.is_file() and path.read_text() == text:
        give(path, owner, mode)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    give(temporary, owner, mode)
    temporary.replace(path)


def give(path: Path, owner: str, mode: int) -> None:
    """The file belongs to this user and its main group, with this mode. Idempotent."""
    account = pwd.getpwnam(owner)
    os.chown(path, account.pw_uid, account.pw_gid)
    path.chmod(mode)


def link(path: Path, target: Path) -> None:
    """`path` is a symbolic link to `target`. Idempotent; a link that points elsewhere is turned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and path.readlink() == target:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(path)
