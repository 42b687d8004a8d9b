"""A sweep's page: mean against training step, over all tasks and for each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vlaeval_hpc.results.pages.films import relative
from vlaeval_hpc.results.pages.page import render, told
from vlaeval_hpc.results.pages.plots import curve, positions
from vlaeval_hpc.results.pages.run import ranges
from vlaeval_hpc.results.sweep import ALPHA, Sweep

NEAR = 0.06  # of a plot's width; a label that stands nearer to the last one is left out


def sweep_page(sweep: Sweep, folder: Path, target: Path) -> str:
    """HTML of what `results.sweep.read_sweep` found in a folder; it links the pages that runs have."""
    points: list[dict[str, Any]] = sweep["points"]
    rate = sweep["metric"] == "success"
    xs = positions([point["step"] for point in points])
    labels = [str(p["label"] if p["step"] is None else p["step"]) for p in points]
    shown = _shown(points, rate)
    return render(
        "sweep",
        name=sweep["name"],
        sweep=sweep,
        rate=rate,
        metric=sweep["metric"],
        alpha=ALPHA,
        curve=curve(shown, xs, rate),
        ticks=_ticks(labels, xs),
        ends=[(label, x) for label, x in zip(labels, xs, strict=True) if x in (0.0, 1.0)],
        tasks=_tasks(points, xs, rate),
        links=[_link(folder, point, target) for point in points],
        neighbours=[_neighbours(pair, folder, target) for pair in sweep["neighbours"]],
        excess=_excess(sweep),
        cautions=[line for line in sweep["caution"] if not sweep["best"] or line != sweep["best"]["caution"]],
    )


def _excess(sweep: Sweep) -> str:
    """By how much the best would look too high, were it equal to those that it is not told from; empty for nothing."""
    excess = sweep["best"]["optimism"] if sweep["best"] else 0
    return (f"{100 * excess:.1f} points" if sweep["metric"] == "success" else f"{excess:.3g}") if excess else ""


def _shown(points: Sequence[Mapping[str, Any]], rate: bool) -> list[dict[str, Any]]:
    means = [told(point["rate"], (point["low"], point["high"]), rate) for point in points]
    return [
        {**point, "title": f"{point['label']}: {mean}, n {point['n']}"}
        for point, mean in zip(points, means, strict=True)
    ]


def _tasks(points: Sequence[Mapping[str, Any]], xs: Sequence[float], rate: bool) -> list[tuple[str, Any]]:
    nothing = {"rate": None, "low": None, "high": None, "n": 0}
    names = sorted({row["task"] for point in points for row in point["per_task"]})
    found = []
    for name in names:
        rows = [next((row for row in point["per_task"] if row["task"] == name), nothing) for point in points]
        labelled = [{**row, "label": point["label"]} for row, point in zip(rows, points, strict=True)]
        found.append((name, curve(_shown(labelled, rate), xs, rate)))
    return found


def _ticks(labels: Sequence[str], xs: Sequence[float]) -> list[tuple[str, float]]:
    ticks: list[tuple[str, float]] = []
    for label, x in zip(labels, xs, strict=True):
        room = NEAR + 0.006 * len(label)
        if not ticks or x - ticks[-1][1] >= room:
            ticks.append((label, x))
    return ticks


def _link(folder: Path, point: Mapping[str, Any], target: Path) -> str:
    """Where a point's page is; empty where it has none."""
    page = folder / (point["run"] or "") / "report.html"
    return quote(os.path.relpath(page, target.parent)) if point["run"] and page.is_file() else ""


def _neighbours(pair: Mapping[str, Any], folder: Path, target: Path) -> dict[str, Any]:
    """The pair, where its flips are, and the videos of those that were recorded."""
    films = [
        {**flip, "videos": [relative(video and str(folder / video), target) for video in flip["videos"]]}
        for flip in pair["flips"]
        if any(flip.get("videos", ()))
    ]
    return {**pair, "gained_in": _flips(pair, "gained"), "lost_in": _flips(pair, "lost"), "films": films}


def _flips(pair: Mapping[str, Any], outcome: str) -> str:
    tasks: dict[str, list[int]] = {}
    for flip in pair["flips"]:
        if flip["outcome"] == outcome:
            tasks.setdefault(flip["task"], []).append(flip["episode"])
    return "; ".join(f"{task} {ranges(episodes)}" for task, episodes in tasks.items())
