"""Intervals that go beside every rate and mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z = 1.959963984540054  # 97.5 % point of the standard normal; `statistics.NormalDist` costs a status 30 ms to import


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def wilson(successes: int, n: int) -> Interval:
    """Wilson's score interval for a rate, 95 %, without continuity correction.

    Source: E. B. Wilson 1927, JASA 22:209; recommended for small n by Brown, Cai and DasGupta 2001,
    Statistical Science 16:101. Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"no rate: {successes} of {n}")
    rate = successes / n
    scale = 1 + Z * Z / n
    centre = (rate + Z * Z / (2 * n)) / scale
    half = Z / scale * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n))
    # At 0 and n the formula meets the border exactly; floating point misses it by an ulp.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low, high)


def student(values: Sequence[float]) -> Interval | None:
    """Student's t interval for a mean, 95 %; None where values do not tell: fewer than two, all equal, not finite."""
    n = len(values)
    if n < 2 or not all(math.isfinite(v) for v in values):
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    if variance == 0:
        return None
    half = t_quantile(n - 1) * math.sqrt(variance / n)
    return Interval(mean - half, mean + half)


def t_quantile(degrees: int) -> float:
    """97.5 % point of Student's t, within 0.2 %.

    Exact for 1 and 2 degrees of freedom, then the expansion 26.7.5 of Abramowitz and Stegun 1964, where
    g1 to g4 are its polynomials at Z.
    """
    if degrees == 1:
        return math.tan(0.475 * math.pi)
    if degrees == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    g1 = (Z**3 + Z) / 4
    g2 = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    g3 = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    g4 = (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160
    return Z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4
