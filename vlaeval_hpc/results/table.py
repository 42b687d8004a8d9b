"""A merged result as a table, by task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vlaeval_hpc.results.grid import Grid, print_grid, print_lines
from vlaeval_hpc.results.merge import Merged, some

if TYPE_CHECKING:
    from rich.console import Console

PROBLEMS_SHOWN = 10

Summary = dict[str, Any]  # a task of a merged result, or the whole of it
Column = tuple[str, Callable[[Summary], str]]


def print_merged(console: Console, merged: Merged) -> None:
    """Print a row a task and a total, and what must be known to read them: coverage, errors, problems."""
    print_grid(console, merged_grid(merged))
    print_lines(console, remarks(merged))


def merged_grid(merged: Merged) -> Grid:
    """The table by task; means with 95 % intervals, and where there are errors the rate without them."""
    columns = _columns(merged)
    rows = [[task["task"], *(cell(task) for _, cell in columns)] for task in merged["tasks"]]
    rows.append(["total", *(cell(merged) for _, cell in columns)])
    return Grid(["task", *(name for name, _ in columns)], rows, left=frozenset(["task"]), footer=1)


def remarks(merged: Merged) -> list[str]:
    """Lines under the table: what is missing, why episodes failed, what was not used."""
    lines = []
    if merged.get("partial"):
        lines.append("PARTIAL: " + _missing(merged))
    coverage = merged.get("coverage", {})
    if coverage.get("retriable"):
        lines.append(f"{coverage['retriable']} failed episodes are tried again when the run is started again")
    if merged["num_errors"]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in merged["failure_reasons"].items())
        lines.append(f"errors: {reasons}; they count as failures")
    problems = merged["problems"]
    lines += [f"problem: {line}" for line in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        lines.append(f"and {len(problems) - PROBLEMS_SHOWN} more problems, see `problems` in the merged file")
    return lines


def percent(rate: float, interval: Sequence[float] | None) -> str:
    """`96.0 % [86.5, 98.9]`."""
    return f"{100 * rate:.1f} %" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")


def _columns(merged: Merged) -> list[Column]:
    columns: list[Column] = [("episodes", lambda s: str(s["num_episodes"]))]
    names = [f"{how}_{key}" for key, how in merged.get("metric_keys", {}).items()]
    for name in sorted(names, key=lambda n: n != "mean_success"):
        if name == "mean_success":
            columns.append(("success [95 %]", _cell(name, percent)))
            if merged["num_errors"]:
                columns.append(("completed only [95 %]", _cell("mean_success_completed", percent)))
        else:
            heading = name.replace("_", " ", 1) + (" [95 %]" if name.startswith("mean_") else "")
            columns.append((heading, _cell(name, _number)))
    columns.append(("mean steps", lambda s: f"{s['avg_steps']:.1f}"))
    columns.append(("errors", lambda s: str(s["num_errors"])))
    return columns


def _cell(name: str, form: Callable[[float, Sequence[float] | None], str]) -> Callable[[Summary], str]:
    """A value with its interval, and its n where that is not the number of episodes."""

    def cell(summary: Summary) -> str:
        if name not in summary:
            return ""
        n = summary.get(f"{name}_n", summary["num_episodes"])
        text = form(summary[name], summary.get(f"{name}_interval"))
        return text if n == summary["num_episodes"] else f"{text} n={n}"

    return cell


def _number(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.4g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


def _missing(merged: Merged) -> str:
    info, coverage = merged["merge_info"], merged.get("coverage")
    if coverage:
        text = f"{coverage['finished']} of {coverage['planned']} planned episodes, {coverage['missing']} missing"
        if not coverage.get("open_shards"):
            return text  # shared work: no shard's
        return f"{text} in {_shards(coverage['open_shards'])} of {info['num_shards']}"
    if info["shards_missing"]:
        return f"{_shards(info['shards_missing'])} of {info['num_shards']} missing"
    return "a shard's file is marked so"


def _shards(numbers: Iterable[int]) -> str:
    listed = [str(number) for number in numbers]
    return ("shard " if len(listed) == 1 else "shards ") + some(listed)
