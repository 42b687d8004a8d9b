"""A sweep: the folder that links its runs, and what they show together.

<results>/sweeps/<name>/
  points.json    what belongs to it: written by who started it
  jobs.json      on Slurm, the job that comes after all merges
  sweep.json  sweep.csv  sweep.html
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vlaeval_hpc.errors import ConfigurationError, VlaevalError
from vlaeval_hpc.results.comparison import Comparison, PairRow, compare
from vlaeval_hpc.results.early import EARLY, LOOKS, flips
from vlaeval_hpc.results.merge import Merged
from vlaeval_hpc.results.outcomes import Outcomes, run_outcomes, values
from vlaeval_hpc.results.rundir import current_merge, is_open_run
from vlaeval_hpc.results.statistics.multiplicity import holm
from vlaeval_hpc.results.statistics.sequential import clearly_worse
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import SCHEMA, check_schema, read_json, write_atomic, write_json

ALPHA = 0.05
Sweep = dict[str, Any]
"""What sweep.json holds; docs/reference/files.md has its keys."""


@dataclass
class Point:
    """One evaluation of a sweep. `run` is relative to the sweep's folder, None where `error` kept it from having one;
    `step` is the training step where the checkpoint's name tells it; `stopped_after` so many episodes it was clearly
    worse than another. `content` is what `watch` saw of the checkpoint: another one is evaluated anew."""

    label: str
    overrides: list[str]
    step: int | None = None
    run: str | None = None
    error: str | None = None
    stopped_after: int | None = None
    content: str | None = None


@dataclass
class Points:
    """points.json, in the order of the table; `varied` names the keys that differ, `options` are what the command line
    had beside overrides (--config-dir). `stop` is sweep.stop, `looks` how many of early.LOOKS were begun."""

    varied: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    stop: str = "never"
    looks: int = 0
    points: list[Point] = field(default_factory=list)

    def add(self, point: Point) -> None:
        """Take a point in, in the place of one of the same label."""
        labels = [p.label for p in self.points]
        if point.label in labels:
            self.points[labels.index(point.label)] = point
        else:
            self.points.append(point)

    def in_order(self) -> None:
        """Sort by training step; those without one stay behind the others as they are."""
        self.points.sort(key=lambda p: (p.step is None, p.step or 0))


class SweepFolder:
    """Paths of one sweep, and its points."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.file = self.root / "points.json"
        self.json = self.root / "sweep.json"
        self.csv = self.root / "sweep.csv"
        self.html = self.root / "sweep.html"

    def load(self) -> Points:
        """Raises ConfigurationError where there is no points.json that can be read."""
        raw = read_json(self.file)
        try:
            check_schema(self.file, raw["schema"])
            del raw["schema"]
            return Points(**{**raw, "points": [Point(**p) for p in raw["points"]]})
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"{self.file}: not a sweep's points: {error}") from error

    def save(self, points: Points) -> None:
        """Replace points.json. Raises ConfigurationError where the folder cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"results: cannot write in {self.root}: {error.strerror}") from error
        write_json(self.file, {"schema": SCHEMA, **asdict(points)})

    def run(self, point: Point) -> RunDirectory | None:
        """A point's run directory, named as the sweep's folder is."""
        return RunDirectory(os.path.normpath(self.root / point.run)) if point.run else None

    def runs(self) -> list[RunDirectory]:
        """The run directories of all points that have one."""
        return [run for point in self.load().points if (run := self.run(point))]

    def link(self, run: RunDirectory) -> str:
        """How `run` is named in points.json."""
        return os.path.relpath(run.root.resolve(), self.root.resolve())


def is_sweep(path: Path | str) -> bool:
    """Whether a folder is a sweep's."""
    return SweepFolder(path).file.is_file()


def write_sweep(folder: SweepFolder) -> Sweep:
    """Read all points' runs, and replace sweep.json, sweep.csv and sweep.html.

    Raises ConfigurationError where there are no points, InfrastructureError where the folder cannot be written.
    """
    from vlaeval_hpc.results.pages.sweep import sweep_page

    found = read_sweep(folder)
    write_json(folder.json, found)
    write_atomic(folder.csv, to_csv(found))
    write_atomic(folder.html, sweep_page(found, folder.root, folder.html))
    return found


def read_sweep(folder: SweepFolder) -> Sweep:
    """What the points show together, from their files as they are now."""
    listed = folder.load()
    merges = {p.label: m for p in listed.points if (m := _merged(folder, p)) is not None}
    metric = _metric(merges.values())
    going_on = listed.stop == EARLY and listed.looks < len(LOOKS)
    points = [_point(folder, p, merges.get(p.label), metric, going_on) for p in listed.points]
    found: Sweep = {
        "schema": SCHEMA,
        "name": folder.root.resolve().name,
        "created_at": datetime.now(timezone.utc).isoformat(),
        "benchmark": next((m["benchmark"] for m in merges.values()), None),
        "metric": metric,
        "varied": listed.varied,
        "stop": listed.stop,
        "points": points,
        "best": None,
        "letters": {},
        "neighbours": [],
        "against_best": [],
        "caution": [],
    }
    measured = {p["label"]: merges[p["label"]] for p in points if p["rate"] is not None}
    if metric is not None and measured:
        runs = [_outcomes(folder, p, measured[p.label]) for p in listed.points if p.label in measured]
        told = [run for run in runs if values(run, metric, run.episodes).found]
        if len(told) < len(runs):
            names = ", ".join(run.name for run in runs if run not in told)
            found["caution"].append(f"not compared, since none of their episodes completed: {names}")
        try:
            _compare(found, told, folder.root)
        except ConfigurationError as error:
            found["caution"].append(f"not compared: {error}")
    return found


def stop_worse(folder: SweepFolder) -> list[Point]:
    """Mark the points that are clearly worse than another by now, and return those that were not before.

    Raises ConfigurationError where the points do not pair.
    """
    listed = folder.load()
    merges = {p.label: m for p in listed.points if (m := _merged(folder, p)) is not None}
    runs = [_outcomes(folder, p, merges[p.label]) for p in listed.points if p.label in merges]
    worse = clearly_worse([run.name for run in runs], flips(runs), ALPHA) if len(runs) > 1 else []
    fresh = [p for p in listed.points if p.label in worse and p.stopped_after is None]
    for point in fresh:
        point.stopped_after = merges[point.label]["coverage"]["finished"]
    folder.save(listed)
    return fresh


def to_csv(sweep: Sweep) -> str:
    """A row a point and task; the task `*` is all of them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = ("label", "step", "run", "state", "letters")
    writer.writerow([*columns, "task", "n", "rate", "low", "high"])
    for point in sweep["points"]:
        for row in [{"task": "*", **point}, *point["per_task"]]:
            writer.writerow([*(point[c] for c in columns), *(row[c] for c in ("task", "n", "rate", "low", "high"))])
    return buffer.getvalue()


def _merged(folder: SweepFolder, point: Point) -> Merged | None:
    run = folder.run(point)
    if run is None:
        return None
    try:
        return current_merge(run)
    except VlaevalError:
        return None  # not made yet, or gone: its state says so


def _metric(merges: Iterable[Merged]) -> str | None:
    """Success where there is one, else the first metric that is a mean."""
    keys = [key for m in merges for key, how in m.get("metric_keys", {}).items() if how == "mean"]
    return "success" if "success" in keys else keys[0] if keys else None


def _point(
    folder: SweepFolder, point: Point, merged: Merged | None, metric: str | None, going_on: bool
) -> dict[str, Any]:
    run = folder.run(point)
    summary = {"n": 0, "rate": None, "low": None, "high": None} if merged is None else _summary(merged, metric)
    if merged is None or not merged["coverage"]["finished"]:
        state = "failed" if point.error else "waiting"
    elif point.stopped_after is not None:
        state = "stopped" if merged["coverage"]["finished"] <= point.stopped_after else "done"
    else:
        state = "partial" if going_on or is_open_run(merged) else "done"
    resume = None
    if state != "done":
        what = run.root if merged is not None and run and not going_on else folder.root
        resume = shlex.join(["python", "-m", "vlaeval_hpc", "resume", str(what)])
    return {
        **asdict(point),
        "state": state,
        **summary,
        "planned": merged["coverage"]["planned"] if merged else None,
        "errors": merged["num_errors"] if merged else 0,
        "over_tasks": None,
        "per_task": [{"task": t["task"], **_summary(t, metric)} for t in merged["tasks"]] if merged else [],
        "letters": "",
        "resume": resume,
    }


def _summary(summary: Mapping[str, Any], metric: str | None) -> dict[str, Any]:
    low, high = summary.get(f"mean_{metric}_interval") or (None, None)
    n = summary.get(f"mean_{metric}_n", 0)
    return {"n": n, "rate": summary.get(f"mean_{metric}"), "low": low, "high": high}


def _outcomes(folder: SweepFolder, point: Point, merged: Merged) -> Outcomes:
    run = folder.run(point)
    assert run is not None
    return run_outcomes(point.label, run, merged)


def _compare(found: Sweep, runs: Sequence[Outcomes], folder: Path) -> None:
    """Letters, the best with its caution, neighbours, all against the best. Raises ConfigurationError."""
    metric = found["metric"]
    together = compare(runs, metric=metric, alpha=ALPHA) if len(runs) > 1 else None
    rows = {row.name: row for row in together.runs} if together else {}
    for point in found["points"]:
        if row := rows.get(point["label"]):
            point["letters"] = row.letters
            point["over_tasks"] = list(row.over_tasks) if row.over_tasks else None
    if together is None:
        return
    found["letters"] = {row.name: row.letters for row in together.runs}
    best = max(together.runs, key=lambda row: row.mean).name
    found["best"] = _best(together, best)
    if found["best"]["caution"]:
        found["caution"].append(found["best"]["caution"])
    found["against_best"] = [_pair(folder, best, pair) for pair in compare(runs, best, metric, alpha=ALPHA).pairs]
    steps = [compare(two, metric=metric, alpha=ALPHA).pairs[0] for two in itertools.pairwise(runs)]
    for one, pair, p in zip(runs[:-1], steps, holm([pair.p for pair in steps]), strict=True):
        pair.p_adjusted = p
        found["neighbours"].append(_pair(folder, one.name, pair))
    for row in together.runs:
        counts = {reason: n for reason, n in row.left_out.items() if reason != "not there"}
        if counts:
            told = ", ".join(f"{reason} {n}" for reason, n in counts.items())
            found["caution"].append(f"{row.name}: {sum(counts.values())} episodes not compared: {told}")
    stopped = [point["label"] for point in found["points"] if point["state"] == "stopped"]
    if stopped:
        found["caution"].append(
            f"stopped early, clearly worse than another: {', '.join(stopped)} (alpha {ALPHA:g} over all looks);"
            " their rates are of fewer episodes, and letters and p do not know of the looks"
        )


def _best(together: Comparison, name: str) -> dict[str, Any]:
    rivals, excess = ([name], 0.0) if together.best is None else (together.best.of, together.best.optimism)
    caution = None
    excess = excess if excess > 1e-9 else 0.0  # columns without a residual leave rounding
    if excess:
        text = f"{100 * excess:.1f} points" if together.rate else f"{excess:.3g}"
        caution = (
            f"best: {name} is the highest of {len(rivals)} that are not told apart;"
            f" were they equal, it would look {text} too high on average"
        )
    return {"label": name, "of": rivals, "optimism": excess, "caution": caution}


def _pair(folder: Path, against: str, pair: PairRow) -> dict[str, Any]:
    low, high = pair.interval or (None, None)
    flips: list[dict[str, Any]] = [{"task": task, "episode": n, "outcome": how} for task, n, how in pair.flips]
    for flip, videos in zip(flips, pair.videos, strict=False):  # none where nothing was recorded
        flip["videos"] = [v and os.path.relpath(v, folder) for v in videos]
    return {
        "from": against,
        "to": pair.name,
        "n": pair.n,
        "gained": pair.gained,
        "lost": pair.lost,
        "difference": pair.difference,
        "low": low,
        "high": high,
        "p": pair.p_adjusted,
        "flips": flips,
    }
