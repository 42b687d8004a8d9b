"""A comparison for a person: the runs, each against the baseline, and what must be known to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vlaeval_hpc.results.comparison import Comparison, PairRow
from vlaeval_hpc.results.grid import Grid, print_grid, print_lines
from vlaeval_hpc.results.table import percent

if TYPE_CHECKING:
    from rich.console import Console

TASKS_SHOWN = 8
STYLES = {"better": "green", "worse": "red"}


def print_comparison(console: Console, found: Comparison, flips: bool = False) -> None:
    """Print it; `flips` adds every episode that only one of a pair won."""
    print_grid(console, runs_grid(found))
    print_lines(console, [""])
    print_grid(console, pairs_grid(found))
    print_lines(console, remarks(found))
    if flips:
        print_lines(console, [""])
        rows = []
        for pair in found.pairs:
            rows += [[pair.name, task, str(episode), how] for task, episode, how in pair.flips]
        columns = ["run", "task", "episode", "outcome"]
        print_grid(console, Grid(columns, rows, left=frozenset(["run", "task", "outcome"])))
        films = [path for pair in found.pairs for videos in pair.videos for path in videos if path]
        print_lines(console, ["", *dict.fromkeys(films)] if films else [])


def runs_grid(found: Comparison) -> Grid:
    """A row a run: n, mean with its intervals, letters."""
    over_tasks = any(run.over_tasks for run in found.runs)
    columns = ["run", "episodes", f"{found.metric} [95 %]", *(["over tasks [95 %]"] if over_tasks else []), "letters"]
    rows = []
    for run in found.runs:
        form = percent if found.rate else _number
        row = [run.name, str(run.n), form(run.mean, run.interval)]
        if over_tasks:
            row.append(_range(run.over_tasks))
        rows.append([*row, run.letters])
    return Grid(columns, rows, left=frozenset(["run", "letters"]))


def pairs_grid(found: Comparison) -> Grid:
    """A row a run against the baseline: pairs, difference with its interval, flips each way, p, the verdict."""
    against = f"against {found.baseline}"
    if found.min_difference:
        unit = " points" if found.rate else ""
        against += f" {'+' if found.min_difference > 0 else '-'} {abs(found.min_difference):g}{unit}"
    up, down = ("gained", "lost") if found.rate else ("higher in", "lower in")
    p = "p (Holm)" if len(found.pairs) > 1 else "p"
    columns = [against, "pairs", f"{'points' if found.rate else 'difference'} [95 %]", up, down, p, "verdict"]
    rows = [
        [
            pair.name,
            str(pair.n),
            _signed(found, pair.difference, pair.interval),
            str(pair.gained),
            str(pair.lost),
            _p(pair.p_adjusted),
            _verdict(pair),
        ]
        for pair in found.pairs
    ]
    styles = {number: STYLES[pair.verdict] for number, pair in enumerate(found.pairs) if pair.verdict in STYLES}
    return Grid(columns, rows, left=frozenset([against, "verdict"]), styles=styles)


def remarks(found: Comparison) -> list[str]:
    """Lines under the tables: what was left out, what could have been seen, tasks that stand out, a caution."""
    lines = []
    if len(found.runs) > 2:
        lines.append(f"runs that share a letter are not told apart (all pairs, Holm, alpha {found.alpha:g})")
    for run in found.runs:
        if run.left_out:
            lines.append(f"{run.name}: {sum(run.left_out.values())} episodes left out: {_counts(run.left_out)}")
        if run.policy_failures:
            lines.append(f"{run.name}: the policy's own failures count as lost: {_counts(run.policy_failures)}")
    for pair in found.pairs:
        if pair.failures is not None and pair.failures.p <= found.alpha:
            share = f"{100 * pair.failures.difference:+.1f} points {_range(pair.failures.interval)}"
            told = f"failed episodes {share} against {found.baseline}, p {_p(pair.failures.p)}"
            lines.append(f"caution: {pair.name}: {told}: what is left may not be alike")
        lines += _could_see(found, pair) + _tasks(found, pair)
    if found.best is not None:
        excess = f"{100 * found.best.optimism:.1f} points" if found.rate else f"{found.best.optimism:.3g}"
        of = f"the highest of {len(found.best.of)} that are not told apart"
        lines.append(f"best: {found.best.name} is {of}; were they equal, it would look {excess} too high on average")
    return lines


def _tasks(found: Comparison, pair: PairRow) -> list[str]:
    standing = sorted((task for task in pair.tasks if task.stands_out), key=lambda task: -abs(task.difference))
    lines = []
    for task in standing[:TASKS_SHOWN]:
        flips = f"gained {task.gained}, lost {task.lost}, p {_p(task.p_adjusted)} (Holm over {len(pair.tasks)} tasks)"
        lines.append(f"{pair.name} on {task.task}: {_signed(found, task.difference, task.interval)}, {flips}")
    if len(standing) > TASKS_SHOWN:
        lines.append(f"{pair.name}: {len(standing) - TASKS_SHOWN} more tasks stand out: --json tells all")
    return lines


def _could_see(found: Comparison, pair: PairRow) -> list[str]:
    if pair.verdict != "inconclusive" or pair.smallest is None:
        return []
    seen = f"{100 * pair.smallest:.1f} points" if found.rate else f"{pair.smallest:.3g}"
    line = f"{pair.name}: {pair.n} pairs would have shown a difference of {seen} (80 % power)"
    if pair.smallest_unpaired is not None:
        line += f"; not paired, {100 * pair.smallest_unpaired:.1f}"
    return [line]


def _verdict(pair: PairRow) -> str:
    if pair.verdict != "inconclusive":
        return pair.verdict
    if pair.more_episodes is None:
        return "inconclusive: no difference seen"
    return f"inconclusive: about {_rounded(pair.more_episodes)} more episodes would decide"


def _rounded(count: int) -> str:
    """Two digits that mean something, upwards."""
    scale = 10 ** max(len(str(count)) - 2, 0)
    return f"{-(-count // scale) * scale:,}"


def _signed(found: Comparison, value: float, interval: Sequence[float] | None) -> str:
    if not found.rate:
        return f"{'+' if value > 0 else ''}{_number(value, interval)}"
    return f"{100 * value:+.1f}" + (f" {_range(interval)}" if interval else "")


def _range(interval: Sequence[float] | None) -> str:
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""


def _number(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.4g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in counts.items())
