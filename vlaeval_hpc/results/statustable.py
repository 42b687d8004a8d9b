"""A run's status for a person: counts, and the shards that something is going on in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlaeval_hpc.results.grid import Grid, print_grid, print_lines
from vlaeval_hpc.results.statistics.intervals import wilson
from vlaeval_hpc.results.status import STATES, RunStatus, ShardStatus
from vlaeval_hpc.results.table import percent

if TYPE_CHECKING:
    from rich.console import Console

SHARDS_SHOWN = 24
STYLES = {"stalled": "red", "waiting": "yellow", "done": "dim"}


def print_status(console: Console, status: RunStatus) -> None:
    """Print it; of many shards only stalled and running ones, the first SHARDS_SHOWN."""
    shown = status.shards
    if len(shown) > SHARDS_SHOWN:
        busy = [s for s in shown if s.state in ("stalled", "running")]
        shown = sorted(busy, key=lambda s: (s.state != "stalled", s.shard))[:SHARDS_SHOWN]
    rest = len(status.shards) - len(shown)
    after = [f"and {rest} more shards: --json lists all"] if rest else []
    after += [f"problem: {line}" for line in status.problems]
    print_lines(console, _head(status))
    print_grid(console, _grid(shown, status.rated))
    print_lines(console, after)


def _head(status: RunStatus) -> list[str]:
    done = f"{100 * status.completed / max(status.total, 1):.1f} %"
    line = f"{status.name}: {status.completed} of {status.total} episodes ({done}), {status.errors} errors"
    if status.rated and status.completed:
        interval = wilson(status.successes, status.completed)
        line += f", success {percent(status.successes / status.completed, interval)} n={status.completed}"
    if status.rate is not None and status.seconds_left is not None and status.completed < status.total:
        line += f"; {60 * status.rate:.1f} episodes a minute, about {duration(status.seconds_left)} left"
    states = ", ".join(f"{status.states[state]} {state}" for state in STATES)
    lines = [line, f"{len(status.shards)} shards: {states}" + ("; merged" if status.merged else "")]
    for server in status.servers:
        job = f" (job {server.job})" if server.job else ""
        lines.append(f"server {server.replica} on {server.host}{job}, heard {server.heartbeat_age:.0f} s ago")
    return lines


def duration(seconds: float) -> str:
    """`2 h 05 min`, `12 min`, `40 s`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _grid(shards: list[ShardStatus], rated: bool) -> Grid:
    columns = ["shard", "state", "episodes", "successes", "errors", "heartbeat", "host", "at"]
    rows = [
        [
            str(s.shard),
            s.state,
            f"{s.completed}/{s.total}",
            str(s.successes) if rated else "",
            str(s.errors),
            "" if s.heartbeat_age is None or s.state == "done" else f"{s.heartbeat_age:.0f} s ago",
            s.host or "",
            _at(s),
        ]
        for s in shards
    ]
    styles = {number: STYLES[s.state] for number, s in enumerate(shards) if s.state in STYLES}
    return Grid(columns, rows, left=frozenset(["state", "host", "at"]), styles=styles)


def _at(shard: ShardStatus) -> str:
    parts = [shard.phase or "", shard.task or ""]
    parts.append("" if shard.episode is None else f"episode {shard.episode}")
    parts.append("" if shard.steps is None else f"step {shard.steps}")
    return " ".join(filter(None, parts))
