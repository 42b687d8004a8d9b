"""Where the marks of a plot lie: numbers for the templates, which draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

CELL = 8  # of an episode strip
PER_ROW = 50


class Bar(NamedTuple):
    """A bar of a histogram, as fractions of the plot."""

    x: float
    width: float
    height: float
    title: str


class Histogram(NamedTuple):
    """Bars, and the values at both ends."""

    bars: list[Bar]
    low: str
    high: str


class Dot(NamedTuple):
    """A point of a curve, in percent of the plot; y grows downwards."""

    x: float
    y: float
    low: float | None
    high: float | None
    title: str


class Curve(NamedTuple):
    """Dots from left to right, and the values at the plot's bottom and top."""

    dots: list[Dot]
    bottom: float
    top: float


class Strip(NamedTuple):
    """Episodes in order as squares: a path for each outcome, in a picture of width x height."""

    width: int
    height: int
    paths: dict[str, str]


def histogram(values: Sequence[float], bins: int = 40) -> Histogram | None:
    """Counts in bins of equal width; None where there are no two values that differ."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = high - low
    if not span:
        return None
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / span * bins), bins - 1)] += 1
    most = max(counts)
    edges = [low + span * i / bins for i in range(bins + 1)]
    bars = [
        Bar(i / bins, 1 / bins, count / most, f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {count}")
        for i, count in enumerate(counts)
        if count
    ]
    return Histogram(bars, f"{low:.3g}", f"{high:.3g}")


def strip(outcomes: Sequence[str]) -> Strip:
    """Episodes in rows of PER_ROW."""
    paths: dict[str, list[str]] = {}
    for number, outcome in enumerate(outcomes):
        x, y = CELL * (number % PER_ROW), CELL * (number // PER_ROW)
        paths.setdefault(outcome, []).append(f"M{x} {y}h{CELL - 1}v{CELL - 1}h-{CELL - 1}z")
    rows = -(-len(outcomes) // PER_ROW)
    return Strip(
        CELL * min(len(outcomes), PER_ROW), CELL * rows, {outcome: "".join(found) for outcome, found in paths.items()}
    )


def positions(steps: Sequence[int | None]) -> list[float]:
    """Where points stand from left to right, 0 to 1: by their step, by its logarithm where steps span a wide range, one
    after the other where a step is not known or two are alike."""
    known = [step for step in steps if step is not None]
    n = len(steps)
    if len(known) < n or len(set(known)) < n or n < 2:
        return [i / max(n - 1, 1) for i in range(n)]
    positive = [step for step in known if step > 0]
    # A step of 0 stands as far before the first as that is from a third of it.
    first = min(positive) / 3
    wide = max(positive) / min(positive) > 30
    places = [math.log(max(step, first)) if wide else float(step) for step in known]
    low, high = min(places), max(places)
    return [(place - low) / (high - low) for place in places]


def curve(points: Sequence[Mapping[str, Any]], xs: Sequence[float], rate: bool) -> Curve:
    """Points that have a `rate`, with their intervals; a rate's axis goes from 0 to 1, another's as far as it must."""
    shown = [(point, x) for point, x in zip(points, xs, strict=True) if point["rate"] is not None]
    bottom, top = 0.0, 1.0
    if not rate:
        ends = [v for point, _ in shown for v in (point["rate"], point["low"], point["high"]) if v is not None]
        bottom, top = (min(ends), max(ends)) if ends else (0.0, 1.0)
        top = top if top > bottom else bottom + 1

    def y(value: float | None) -> float | None:
        return None if value is None else round(100 - 100 * (value - bottom) / (top - bottom), 2)

    dots = [
        Dot(
            round(100 * x, 2),
            y(point["rate"]) or 0.0,
            y(point["low"]),
            y(point["high"]),
            point["title"],
        )
        for point, x in shown
    ]
    return Curve(dots, bottom, top)
