"""Counting a journal's episodes by its text, ten times as fast as parsing it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from vlaeval_hpc.run.files import SCHEMA

FAILURE = b'"failure_reason": '


class Tally(NamedTuple):
    """Distinct episodes, those whose standing record is a failure, those that succeeded."""

    completed: int = 0
    errors: int = 0
    successes: int = 0


def tally(raw: bytes, run: str) -> Tally | None:
    """What `settle` would find in a shard's journal, as the worker writes it: an episode again only after a failure.

    None where the text is not what the worker writes: then it must be parsed. What is looked for holds an unescaped
    quote, so that it is never found inside a string.
    """
    raw = raw[: raw.rfind(b"\n") + 1]
    lines = raw.count(b"\n")
    begin = f'{{"schema": {SCHEMA}, "run": {json.dumps(run)}, "task": '.encode()
    successes = raw.count(b'"success": true')
    if raw.count(begin) != lines or successes + raw.count(b'"success": false') != lines:
        return None
    failed: Counter[bytes] = Counter()
    for line in _failures(raw):
        try:
            episode = json.loads(line)
            failed[begin + f'{json.dumps(episode["task"])}, "episode_id": {episode["episode_id"]}, '.encode()] += 1
            if episode["metrics"]["success"]:
                return None
        except (ValueError, KeyError, TypeError):
            return None
    tries = {prefix: raw.count(prefix) for prefix in failed}
    again = sum(tries.values()) - len(tries)
    return Tally(lines - again, sum(tries[prefix] == n for prefix, n in failed.items()), successes)


def _failures(raw: bytes) -> Iterator[bytes]:
    found = raw.find(FAILURE)
    while found >= 0:
        end = raw.index(b"\n", found)
        yield raw[raw.rfind(b"\n", 0, found) + 1 : end]
        found = raw.find(FAILURE, end)
