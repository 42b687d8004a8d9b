"""How the open items of a plan are cut into chunks for elastic shards: long chunks first, single items last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.files import SCHEMA, check_schema, read_json, write_atomic
from vlaeval_hpc.run.plan import Item

LONGEST = 32  # items of a chunk
FEWEST_BEATS, MOST_BEATS = 60.0, 2.5  # seconds between two heartbeats of a shard, in a large fleet and in a small one
BEATS_A_SECOND = 20.0  # of all shards together, until FEWEST_BEATS is reached


class Table(NamedTuple):
    """The chunks of each task that has open items, as indexes into the plan's items; `heartbeat` in seconds."""

    heartbeat: float
    tasks: List[List[List[int]]]

    def save(self, path: Path) -> None:
        """Write atomically, a chunk a line."""
        tasks = ",\n".join("[" + ",\n ".join(json.dumps(chunk) for chunk in task) + "]" for task in self.tasks)
        write_atomic(path, f'{{"schema": {SCHEMA}, "heartbeat": {self.heartbeat}, "tasks": [\n{tasks}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Read it. Raises ConfigurationError where it is missing or not a table of chunks."""
        raw: Dict[str, Any] = read_json(path)
        try:
            check_schema(path, raw["schema"])
            return cls(float(raw["heartbeat"]), raw["tasks"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{path}: not a table of chunks: {error}") from error


def cut(items: Sequence[Item], open_items: Sequence[int], shards: int) -> Table:
    """Chunks of one task each. A task's first chunks together are half of its items, one for each shard that it may
    expect; the next are half of the rest, and so on to single items ("factoring", Hummel et al. 1992): few leases, and
    yet no shard is left with a long one when the others have ended."""
    by_task: Dict[str, List[int]] = {}
    for index in open_items:
        by_task.setdefault(items[index].task, []).append(index)
    tasks = []
    for indexes in by_task.values():
        expected = max(1, round(shards * len(indexes) / max(len(open_items), 1)))
        chunks: List[List[int]] = []
        begin = 0
        while begin < len(indexes):
            size = min(LONGEST, -(-(len(indexes) - begin) // (2 * expected)))
            for _ in range(expected):
                if begin < len(indexes):
                    chunks.append(indexes[begin : begin + size])
                    begin += size
        tasks.append(chunks)
    return Table(heartbeat_of(shards), tasks)


def heartbeat_of(shards: int) -> float:
    """Seconds between two heartbeats of a shard: often where they are few, seldom where they are many."""
    return min(FEWEST_BEATS, max(MOST_BEATS, shards / BEATS_A_SECOND))
