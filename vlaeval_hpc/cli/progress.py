"""How far the shards are, while one waits: a live line on a terminal, a plain one now and then in a log."""

from __future__ import annotations

import json
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan

LOOK_EVERY = 0.5
PLAIN_EVERY = 10.0


class Progress:
    """Follows the shards' progress files; `with` shows it."""

    def __init__(self, console: Console, run: RunDirectory, plan: Plan) -> None:
        self._console = console
        self._files = [run.shard(plan.name, i, plan.shards) for i in range(plan.shards)]
        self._plan = plan
        self._seen = [0] * plan.shards  # completed by each, as last told
        self._total = len(plan.items)
        self._looked = self._printed = 0.0
        self._last = ""
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("episodes"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._line = self._bar.add_task("starting", total=self._total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()

    def update(self) -> None:
        """Look, at most every LOOK_EVERY seconds, and show."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        completed, errors, phases = self._read()
        state = "running" if completed or "running" in phases else (phases or ["starting"])[0]
        text = f"{state}, {errors} errors" if errors else state
        self._bar.update(self._line, completed=completed, description=text)
        if not self._console.is_terminal and now - self._printed > PLAIN_EVERY:
            line = f"{completed}/{self._total} episodes, {text}"
            if line != self._last:
                self._console.print(line, markup=False)
            self._printed, self._last = now, line

    def _read(self) -> tuple[int, int, list[str]]:
        completed = errors = 0
        phases = []
        for shard, files in enumerate(self._files):
            try:
                found = json.loads(files.progress.read_text())
                completed += found["completed"]
                self._seen[shard] = found["completed"]
                errors += found["errors"]
                phases.append(found["phase"])
            except (OSError, ValueError, KeyError):
                # No progress file: not begun, or done.
                completed += self._done(shard) if files.result.exists() else 0
        return completed, errors, phases

    def _done(self, shard: int) -> int:
        return self._seen[shard] if self._plan.sharding == "elastic" else len(self._plan.assigned(shard))
