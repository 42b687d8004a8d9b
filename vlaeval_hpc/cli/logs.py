"""`logs RUN`: the ends of a run's logs, what went wrong first; followed with -f."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.launch.jobs import read_submissions
from vlaeval_hpc.results.status import read_status
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan

KINDS = {"server": "server", "shards": "shard", "merge": "merge"}
"""Kinds of jobs, and what a user calls one of their members."""

POLL = 0.5
ASK_EVERY = 5.0  # seconds between two looks whether a followed run is complete
BLOCK = 1 << 16  # bytes read at a time from the end, and searched there for what went wrong
MOST_TROUBLED = 5
TRACEBACK = "Traceback (most recent call last):"
TROUBLE = re.compile(rf"error: |{re.escape(TRACEBACK)}|\w+: error: |.*looks sick|.*oom.kill")


class Log(NamedTuple):
    """A file that a replica, a shard or the merge writes, or the job that it runs in."""

    kind: str
    number: int
    path: Path


Wanted = dict[str, "int | None"]
"""Kinds of logs, and of each the one replica or shard; None: all."""


def main(argv: list[str]) -> int:
    """Exit status 0, whatever the logs tell."""
    parser = Parser("logs")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("what", nargs="?")
    parser.add_argument("number", nargs="?", type=int)
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-n", "--lines", type=int, default=20)
    arguments = parser.parse_intermixed_args(argv)
    run = run_directory(arguments.run)
    if arguments.lines < 0:
        raise ConfigurationError(f"logs: -n {arguments.lines}: valid: 0 and more")
    read = {log.path: _size(log.path) for log in logs(run)}
    if arguments.what is None:
        wanted = _show_everything(run, arguments.lines)
    else:
        wanted = _choice(run, arguments.what, arguments.number, arguments.follow)
        for log in _select(run, wanted):
            _print(run, log.path, tail(log.path, arguments.lines))
    if arguments.follow:
        _follow(run, wanted, read)
    sys.stdout.flush()  # a reader that has enough is noticed here, and not at the interpreter's end
    return 0


def logs(run: RunDirectory) -> list[Log]:
    """Every log that has something in it: processes' own, and their jobs'."""
    found = []
    for path in run.logs.glob("*.log"):
        name = re.fullmatch(r"(server|shard|merge)(?:-(\d+))?\.log", path.name)
        if name:
            found.append(Log(name[1], int(name[2] or 0), path))
    for submission in read_submissions(run):
        for job in submission.jobs:
            folder = (run.root / job.script).parent
            for task, members in zip(job.task_ids, job.members, strict=True):
                for path in folder.glob(f"{task}_*_log.*"):
                    found += [Log(KINDS[job.kind], number, path) for number in members or [0]]
    order = list(KINDS.values())
    return sorted((x for x in found if _size(x.path)), key=lambda x: (order.index(x.kind), x.number, x.path.name))


def tail(path: Path, lines: int) -> list[str]:
    """The last lines, read from the end."""
    data, count = b"", 0
    with path.open("rb") as stream:
        begin = stream.seek(0, os.SEEK_END)
        while begin and count <= lines:
            size = min(BLOCK, begin)
            begin = stream.seek(begin - size)
            block = stream.read(size)
            data, count = block + data, count + block.count(b"\n")
    return data.decode("utf-8", "replace").splitlines()[-lines:] if lines else []


def trouble(path: Path, lines: int) -> list[str]:
    """The last lines of a log's end that say that something went wrong, tracebacks whole; none where all is well."""
    with path.open("rb") as stream:
        stream.seek(max(0, _size(path) - BLOCK))
        text = stream.read().decode("utf-8", "replace").splitlines()
    told, inside = [], False
    for line in text:
        begins = TROUBLE.match(line) is not None
        if begins or inside:
            told.append(line)
        inside = line.startswith(TRACEBACK) or (inside and line.startswith(" "))
    return told[-lines:] if lines else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _age_key(log: Log) -> float:
    return log.path.stat().st_mtime


def _select(run: RunDirectory, wanted: Wanted) -> list[Log]:
    return [x for x in logs(run) if x.kind in wanted and wanted[x.kind] in (None, x.number)]


def _show_everything(run: RunDirectory, lines: int) -> Wanted:
    """Print what went wrong, the newest first, then the ends of the server's and the latest shard's log; what there is
    to follow: these two, and the merge."""
    every = logs(run)
    newest = sorted({log.path: log for log in every}.values(), key=_age_key, reverse=True)
    troubled = [(log, told) for log in newest if (told := trouble(log.path, lines))]
    for log, told in troubled[:MOST_TROUBLED]:
        _print(run, log.path, told)
    more = [log for log, _ in troubled[MOST_TROUBLED:]]
    if more:
        print(f"and {len(more)} more logs tell of errors, as that of {_title(more[0])}\n")
    wanted: Wanted = {"server": None, "shard": None, "merge": None}
    for kind in ("server", "shard"):
        own = [log for log in every if log.kind == kind and log.path.parent == run.logs]
        if own:
            latest = max(own, key=_age_key)
            wanted[kind] = latest.number
            _print(run, latest.path, tail(latest.path, lines))
    if not every:
        print(f"no logs yet in {run.logs}", flush=True)
    return wanted


def _choice(run: RunDirectory, what: str, number: int | None, waits: bool) -> Wanted:
    """One replica or shard, by default the one that wrote last; with `waits` one that has not begun will do.

    Raises ConfigurationError, naming what there is.
    """
    if what not in KINDS.values():
        raise unknown("log", what, KINDS.values())
    every = logs(run)
    found = [log for log in every if log.kind == what and number in (None, log.number)]
    if found:
        return {what: max(found, key=_age_key).number}
    plan = Plan.load(run.plan)
    planned = {"server": int(plan.model.get("replicas") or 1), "shard": plan.shards, "merge": 1}[what]
    if waits and (number is None or 0 <= number < planned):
        return {what: number}
    there = ", ".join(dict.fromkeys(map(_title, every)))
    name = what if number is None else f"{what} {number}"
    raise ConfigurationError(f"{run.root}: no log of {name}: valid: {there or 'none yet'}")


def _title(log: Log) -> str:
    return "merge" if log.kind == "merge" else f"{log.kind} {log.number}"


def _print(run: RunDirectory, path: Path, lines: list[str]) -> None:
    print(f"==> {path.relative_to(run.root)} <==", *lines, "", sep="\n")


def _follow(run: RunDirectory, wanted: Wanted, positions: dict[Path, int]) -> None:
    """Print what is added to logs, old and new ones, until the run is complete; Ctrl-C ends it before. `positions`
    tells how far each was read."""
    shown: Path | None = None
    ask_at = time.monotonic()
    complete = False
    while not complete:
        if time.monotonic() >= ask_at:
            complete = _complete(run)  # before the last look, so that nothing is left unprinted
            ask_at = time.monotonic() + ASK_EVERY
        for path in dict.fromkeys(log.path for log in _select(run, wanted)):
            added, positions[path] = _added(path, positions.get(path, 0))
            if added:
                header = f"==> {path.relative_to(run.root)} <==\n" if path != shown else ""
                print(f"{header}{added}", end="")
                shown = path
        sys.stdout.flush()
        if not complete:
            time.sleep(POLL)


def _added(path: Path, position: int) -> tuple[str, int]:
    """Whole lines since `position`, and the new one. A log that became shorter was begun anew by a requeued job."""
    position = 0 if _size(path) < position else position
    with path.open("rb") as stream:
        stream.seek(position)
        data = stream.read()
    data = data[: data.rfind(b"\n") + 1]
    return data.decode("utf-8", "replace"), position + len(data)


def _complete(run: RunDirectory) -> bool:
    """Whether the merge that ends a run has come after its last start, and no shard is at work."""
    try:
        merged = run.merged.stat().st_mtime
    except OSError:
        return False
    started = max((p.stat().st_mtime for p in (run.config, run.jobs) if p.exists()), default=0.0)
    return merged >= started and not read_status(run).states["running"]
