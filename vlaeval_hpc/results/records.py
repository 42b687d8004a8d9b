"""Every record of a run: its journals, and the shard files whose journal is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.shardfile import read_shard_file
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.journal import Episode, read_journal

SHOWN = 3


class Source(NamedTuple):
    """One file's episodes of this run, in file order, and what in it could not be used."""

    path: Path
    episodes: list[Episode]
    problems: list[str]


def sources(directory: RunDirectory, run: str) -> Iterator[Source]:
    """Read file by file, in a stable order: journals of any number of shards first, then the lone shard files."""
    journals = list(directory.journals())
    for path in journals:
        yield _journal(path, run)
    journalled = {path.stem for path in journals}
    for path in sorted(directory.shards.glob("*.json")):
        if path.stem not in journalled:
            yield _shard_file(path, run)


def _journal(path: Path, run: str) -> Source:
    read = read_journal(path, run)
    problems = read.problems
    if len(problems) > SHOWN:
        problems = [*problems[:SHOWN], f"{path}: {len(problems) - SHOWN} more lines not used"]
    return Source(path, read.episodes, problems)


def _shard_file(path: Path, run: str) -> Source:
    try:
        shard = read_shard_file(path)
    except ConfigurationError as error:
        return Source(path, [], [f"{error}, not used"])
    if shard.get("run") != run:
        return Source(path, [], [f"{path}: of another run ({shard.get('run')}), not used"])
    rows = [{**episode, "task": task["task"]} for task in shard["tasks"] for episode in task["episodes"]]
    return Source(path, rows, [])
