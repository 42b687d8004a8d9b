"""A sweep for a person: a row a point, and what must be known to read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlaeval_hpc.results.grid import Grid, print_grid, print_lines
from vlaeval_hpc.results.sweep import ALPHA, Sweep
from vlaeval_hpc.results.table import percent

if TYPE_CHECKING:
    from rich.console import Console

STATES = {"failed": "red", "partial": "yellow", "waiting": "yellow", "stopped": "dim"}


def print_sweep(console: Console, found: Sweep) -> None:
    """Print the table by point, and the remarks."""
    print_grid(console, sweep_grid(found))
    print_lines(console, remarks(found))


def sweep_grid(found: Sweep) -> Grid:
    """A row a point: episodes, rate with its interval, letters, errors, and its state where it is not done."""
    metric = found["metric"] or "success"
    rate = metric == "success"
    columns = [" ".join(found["varied"]) or "point", "episodes", f"{metric} [95 %]", "letters", "errors", "state"]
    rows, styles = [], {}
    for number, point in enumerate(found["points"]):
        state = point["state"] if point["state"] in STATES else ""
        planned = f" of {point['planned']}" if point["planned"] and point["n"] < point["planned"] else ""
        episodes = f"{point['n']}{planned}" if point["rate"] is not None else ""
        value = _value(point, rate)
        rows.append([point["label"], episodes, value, point["letters"], str(point["errors"] or ""), state])
        if state:
            styles[number] = STATES[state]
    return Grid(columns, rows, left=frozenset([columns[0], "letters", "state"]), styles=styles)


def remarks(found: Sweep) -> list[str]:
    """Lines under the table: letters, cautions, how neighbours differ, and what finishes open points."""
    lines = []
    if len(set(found["letters"].values())) > 0:
        lines.append(f"points that share a letter are not told apart (all pairs, Holm, alpha {ALPHA:g})")
    lines += found["caution"]
    for point in found["points"]:
        if point["state"] == "stopped":
            continue
        if point["error"]:
            lines.append(f"{point['label']}: {point['error']}")
        if point["resume"] and point["state"] != "waiting":
            lines.append(f"to finish {point['label']}: {point['resume']}")
    return lines


def _value(point: Mapping[str, Any], rate: bool) -> str:
    if point["rate"] is None:
        return ""
    interval = (point["low"], point["high"]) if point["low"] is not None else None
    if rate:
        return percent(point["rate"], interval)
    return f"{point['rate']:.4g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")
