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


def clopper_pearson(successes: float, n: float) -> Interval:
    """Clopper and Pearson's exact interval for a rate, 95 % or more whatever the rate and n.

    The counts may be fractions, as `clustered` gives them. Raises ValueError unless 0 <= successes <= n and n > 0.
    Source: C. J. Clopper and E. S. Pearson 1934, Biometrika 26:404, doi:10.1093/biomet/26.4.404; by the quantiles of
    the beta distribution.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"no rate: {successes} of {n}")
    failures = n - successes
    low = float(betaincinv(successes, failures + 1, 0.025)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, failures, 0.975)) if failures > 0 else 1.0
    return Interval(low, high)


def clustered(counts: Sequence[tuple[int, int]]) -> Interval | None:
    """95 % interval for a pooled rate, with the tasks as a sample of the tasks that there could be.

    `counts` are (successes, n) of each task, n > 0; None for fewer than two tasks. Wilson's interval is about these
    very tasks, this one about further tasks too, so it is wider where tasks differ. The variance of the pooled rate is
    the cluster-robust one with the small-sample correction G / (G - 1) for G clusters (CR1); the interval is Clopper
    and Pearson's at the number of independent episodes that would have that variance, scaled by the squared ratio of
    the t quantiles at n - 1 and G - 1 degrees of freedom. So it stays within 0 and 1, and is never narrower than over
    independent episodes.
    Source: E. L. Korn and B. I. Graubard 1998, Survey Methodology 24:193; the variance: A. C. Cameron and
    D. L. Miller 2015, Journal of Human Resources 50:317, doi:10.3368/jhr.50.2.317.
    """
    groups, n = len(counts), sum(size for _, size in counts)
    if groups < 2:
        return None
    successes = sum(count for count, _ in counts)
    rate = successes / n
    scores = math.fsum((count - rate * size) ** 2 for count, size in counts)
    variance = groups / (groups - 1) * scores / n**2
    if variance == 0:
        return clopper_pearson(successes, n)
    scale = (t_quantile(n - 1) / t_quantile(groups - 1)) ** 2
    effective = min(float(n), scale * rate * (1 - rate) / variance)
    return clopper_pearson(rate * effective, effective)


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
