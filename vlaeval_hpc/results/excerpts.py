"""What a run's logs say of an episode."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from vlaeval_hpc.results.outcomes import Key
from vlaeval_hpc.run.directory import RunDirectory

LINES = 20
END = re.compile(r"\[\d+/\d+\] (.+) episode (\d+): ")


def excerpts(run: RunDirectory, wanted: Collection[Key]) -> dict[Key, list[str]]:
    """Of each episode that a shard's log tells of, the file's name and the lines before and with its end, the last time
    that it ended; no more than LINES, and none that belong to the episode before."""
    found: dict[Key, list[str]] = {}
    for path in log_files(run):
        recent: deque[str] = deque(maxlen=LINES)
        with suppress(OSError), path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                recent.append(line.rstrip("\n"))
                end = END.match(line)
                if end is None:
                    continue
                key = (end[1], int(end[2]))
                if key in wanted:
                    found[key] = [f"{path.relative_to(run.root)}:", *recent]
                recent.clear()
    return found


def log_files(run: RunDirectory) -> list[Path]:
    """What shards printed, here or in their jobs."""
    return sorted(run.logs.glob("shard*.log")) + sorted((run.root / "jobs").rglob("*_log.*"))
