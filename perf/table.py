"""What is promised beside what was seen."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One promise: the values of the rounds, the bound, and whether the median is to be at least or at most it."""

    what: str
    values: Sequence[float]
    bound: float
    least: bool

    @property
    def kept(self) -> bool:
        median = statistics.median(self.values)
        return median >= self.bound if self.least else median <= self.bound


def show(rows: Sequence[Row]) -> bool:
    """Print the table; whether every promise is kept."""
    width = max(len(row.what) for row in rows)
    print(f"{'':{width}}  {'median':>8}  {'least':>8}  {'most':>8}  promised")
    for row in rows:
        seen = "  ".join(f"{x:8.2f}" for x in (statistics.median(row.values), min(row.values), max(row.values)))
        word = f"{'>=' if row.least else '<='} {row.bound:g}"
        print(f"{row.what:{width}}  {seen}  {word}{'' if row.kept else '  BROKEN'}")
    return all(row.kept for row in rows)
