"""The page of `tune`: what shards ask for, and what the policy gives, in one plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from vlaeval_hpc.results.pages.page import render

WIDTH, HEIGHT = 640, 320


class Mark(NamedTuple):
    """A point of a curve, or a place on an axis."""

    x: float
    y: float
    text: str


def tuning_page(
    model: str,
    benchmark: str,
    chunk: int,
    overrides: Sequence[str],
    demand: Sequence[tuple[int, float]],
    supply: Sequence[tuple[int, float]],
) -> str:
    """HTML. `demand`: (shards, looks a second), `supply`: (batch, answers a second)."""
    top = 1.1 * max(rate for _, rate in (*demand, *supply))
    last = math.log2(max(count for count, _ in (*demand, *supply))) or 1.0

    def mark(count: int, rate: float, what: str) -> Mark:
        x, y = WIDTH * math.log2(count) / last, HEIGHT * (1 - rate / top)
        return Mark(round(x, 1), round(y, 1), f"{what} {count}: {rate:.4g} a second")

    return render(
        "tuning",
        model=model,
        benchmark=benchmark,
        chunk=chunk,
        overrides=" ".join(overrides),
        width=WIDTH,
        height=HEIGHT,
        top=f"{top:.3g}",
        ticks=[Mark(round(WIDTH * n / last, 1), HEIGHT, str(2**n)) for n in range(int(last) + 1)],
        curves=[
            ("demand", "looks a second, by shards", [mark(*point, "shards") for point in demand]),
            ("supply", "answers a second, by batch size", [mark(*point, "batch") for point in supply]),
        ],
        rows=[("shards", *point) for point in demand] + [("batch", *point) for point in supply],
    )
