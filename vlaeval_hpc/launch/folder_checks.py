"""Checks of a folder that a run writes in: the primitives that the run directory is built on, done for real."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vlaeval_hpc.launch.filesystem import file_system, seen_here_only
from vlaeval_hpc.launch.finding import OK, PROBLEM, WARNING, Finding
from vlaeval_hpc.run.files import write_atomic

SPACE_WARNING, SPACE_PROBLEM = 20e9, 2e9  # bytes
SKEW = 2.0  # seconds
SLOW = 0.5  # seconds to write a file and see it on disk; a journal pays that once an episode


def nearest(folder: Path) -> Path:
    """The folder, or where it would be made."""
    absolute = folder.expanduser().absolute()
    return next(p for p in [absolute, *absolute.parents] if p.exists())


def check_folder(name: str, folder: Path, setting: str) -> Iterator[Finding]:
    """Who sees the folder, whether locks and atomic files work there, and its clock. `setting` chooses another one."""
    yield _visibility(name, folder, setting)
    try:
        probe = Path(tempfile.mkdtemp(prefix=".doctor-", dir=folder))
    except OSError as error:
        advice = f"choose {setting} where you may write"
        yield Finding(f"{name} writable", PROBLEM, f"{folder}: {error.strerror}", advice)
        return
    try:
        yield _operations(name, folder, probe, setting)
        yield _clock(name, probe)
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _visibility(name: str, folder: Path, setting: str) -> Finding:
    holder, why = file_system(folder), seen_here_only(folder)
    if why is not None:
        advice = f"compute nodes cannot see it: choose {setting} on a shared file system (cluster=local does not mind)"
        return Finding(f"{name} folder", WARNING, f"{folder}: on this node only: {why}", advice)
    if not holder.networked and shutil.which("sbatch"):
        advice = f"it looks like this machine's own disk: if compute nodes do not see it, choose another {setting}"
        return Finding(f"{name} folder", WARNING, f"{folder}: {holder} ({holder.source})", advice)
    return Finding(f"{name} folder", OK, f"{folder}: {holder}")


def _operations(name: str, folder: Path, probe: Path, setting: str) -> Finding:
    """What locks and atomic files are made of, done for real."""
    title, advice = f"{name} writable", f"locks cannot be trusted there: choose {setting} on another file system"
    taken = probe / "lock"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(taken, flags))
    with suppress(FileExistsError):
        os.close(os.open(taken, flags))
        return Finding(title, PROBLEM, f"{folder}: O_EXCL takes a lock that is held", advice)
    (probe / "guard").mkdir()
    with suppress(FileExistsError):
        (probe / "guard").mkdir()
        return Finding(title, PROBLEM, f"{folder}: mkdir makes a folder that is there", advice)
    begin = time.monotonic()
    for text in ("before", "after"):
        write_atomic(probe / "file", text)
    took = (time.monotonic() - begin) / 2
    if (probe / "file").read_text() != "after" or {p.name for p in probe.iterdir()} != {"lock", "guard", "file"}:
        return Finding(title, PROBLEM, f"{folder}: rename does not replace a file", advice)
    found = f"O_EXCL, mkdir, fsync and rename work; {1000 * took:.0f} ms a file"
    if took > SLOW:
        slow = f"every episode waits for that once: choose {setting} on a faster file system"
        return Finding(title, WARNING, found, slow)
    return Finding(title, OK, found)


def _clock(name: str, probe: Path) -> Finding:
    before = time.time()
    (probe / "clock").touch()
    after = time.time()
    stamp = (probe / "clock").stat().st_mtime
    apart = round(min(0.0, stamp - before) or max(0.0, stamp - after), 1) or 0.0
    title, found = f"{name} clock", f"the file system's clock is {apart:+.1f} s from ours"
    if abs(apart) < SKEW:
        return Finding(title, OK, found)
    return Finding(
        title, WARNING, found, "have the site look after NTP: times in logs and in file listings do not agree"
    )


def check_space(name: str, folder: Path) -> Iterator[Finding]:
    """How much room there is."""
    free = shutil.disk_usage(folder).free
    state = PROBLEM if free < SPACE_PROBLEM else WARNING if free < SPACE_WARNING else OK
    advice = "" if state == OK else "make room, or choose another: an image takes 0.5 to 20 GB, a checkpoint up to 20"
    yield Finding(f"{name} space", state, f"{folder}: {free / 1e9:.1f} GB free", advice)
