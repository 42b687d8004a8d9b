"""A shard's journal: one line per finished episode, appended and synced, never rewritten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run.files import SCHEMA

Episode = Dict[str, Any]
"""schema, run, task, episode_id, seed, metrics, steps, elapsed_sec, failure_reason?, failure_detail?, ..."""


class JournalRead(NamedTuple):
    """What a journal holds, and what in it could not be used, a line each."""

    episodes: List[Episode]
    problems: List[str]


class Journal:
    """Appends to one journal; the caller holds the shard's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._torn = False
        try:
            self._handle = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            _drop_torn_tail(self._handle)
        except OSError as error:
            raise InfrastructureError(f"cannot open {path}: {error.strerror}") from error

    def append(self, episode: Episode) -> None:
        """Add an episode; it is on the disk when this returns. Raises InfrastructureError, then nothing was added."""
        line = (json.dumps({"schema": SCHEMA, **episode}, allow_nan=False) + "\n").encode("utf-8")
        before = os.fstat(self._handle).st_size
        try:
            if self._torn:
                _drop_torn_tail(self._handle)
                self._torn = False
                before = os.fstat(self._handle).st_size
            written = 0
            while written < len(line):
                written += os.write(self._handle, line[written:])
            os.fsync(self._handle)
        except OSError as error:
            try:
                os.ftruncate(self._handle, before)
            except OSError:
                self._torn = True  # dropped before the next line is added, and by whoever reads the journal
            raise InfrastructureError(f"cannot append to {self._path}: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._handle)


def read_journal(path: Path, run: str) -> JournalRead:
    """Episodes of `run` in file order. A torn last line is dropped; other lines that are no episode are named."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return JournalRead([], [])
    except OSError as error:
        return JournalRead([], [f"{path}: cannot be read: {error.strerror}"])
    whole = raw[: raw.rfind(b"\n") + 1]  # what follows: nothing, or a line whose writer died while it wrote
    sound = _read_sound(whole, run)
    if sound is not None:
        return JournalRead(sound, [])
    episodes: List[Episode] = []
    problems: List[str] = []
    for number, line in enumerate(whole[:-1].split(b"\n"), 1):
        try:
            episode = json.loads(line)
            foreign = episode["run"] != run
            complete = isinstance(episode["task"], str) and isinstance(episode["episode_id"], int)
            complete = complete and isinstance(episode["metrics"], dict) and int(episode["schema"]) <= SCHEMA
        except (ValueError, KeyError, TypeError, RecursionError):
            problems.append(f"{path}:{number}: not an episode, not used")
            continue
        if foreign:
            problems.append(f"{path}:{number}: of another run ({episode['run']}), not used")
        elif not complete:
            problems.append(f"{path}:{number}: not an episode of schema {SCHEMA} or older, not used")
        else:
            episodes.append(episode)
    return JournalRead(episodes, problems)


def _read_sound(whole: bytes, run: str) -> Optional[List[Episode]]:
    """A journal without a flaw, parsed in one go, which halves the time; None where it must be read line by line."""
    try:
        episodes: List[Episode] = json.loads(b"[" + whole[:-1].replace(b"\n", b",") + b"]")
        sound = len(episodes) == whole.count(b"\n") and all(
            type(e["task"]) is str
            and type(e["episode_id"]) is int
            and type(e["metrics"]) is dict
            and e["run"] == run
            and e["schema"] == SCHEMA
            for e in episodes
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return episodes if sound else None


def _drop_torn_tail(handle: int) -> None:
    """Cut what follows the last newline, reading backwards: a journal may be long."""
    end = os.fstat(handle).st_size
    position = end
    while position > 0:
        start = max(0, position - 65536)
        newline = os.pread(handle, position - start, start).rfind(b"\n")
        if newline >= 0:
            if start + newline + 1 < end:
                os.ftruncate(handle, start + newline + 1)
            return
        position = start
    if end:
        os.ftruncate(handle, 0)
