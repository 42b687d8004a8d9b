"""What a comparison of this size could have shown, and how much more would show what was seen.

By the normal approximation, for tests that are two-sided at `alpha`, at 80 % power.
"""

from __future__ import annotations

import math
from collections.abc import Callable

POWER = 0.8


def smallest_paired(n: int, discordance: float, alpha: float) -> float | None:
    """Smallest difference of two rates that n pairs would have shown; None where n pairs show none at all.

    `discordance` is the share of pairs that flip. It is raised to the difference where that is larger, since a
    difference needs as many flips.
    Source: R. J. Connor 1987, Biometrics 43:207, doi:10.2307/2531961.
    """
    error, power = _points(alpha)

    def needed(difference: float) -> float:
        flips = max(discordance, difference)
        return ((error * math.sqrt(flips) + power * math.sqrt(flips - difference**2)) / difference) ** 2

    return _smallest(needed, n, 1.0)


def smallest_unpaired(n: int, rate: float, alpha: float) -> float | None:
    """Smallest difference that n episodes would show against n others that do not pair; None as above.

    From `rate` towards 1/2, where it takes more.
    Source: J. L. Fleiss, B. Levin and M. C. Paik 2003, Statistical Methods for Rates and Proportions, section 4.2,
    without continuity correction.
    """
    error, power = _points(alpha)
    rate = max(rate, 1 - rate)

    def needed(difference: float) -> float:
        other = rate - difference
        middle = (rate + other) / 2
        spread = power * math.sqrt(rate * (1 - rate) + other * (1 - other))
        return ((error * math.sqrt(2 * middle * (1 - middle)) + spread) / difference) ** 2

    return _smallest(needed, n, rate)


def smallest_mean(n: int, deviation: float, alpha: float) -> float:
    """Smallest mean of n differences, with that standard deviation, that would have been told from 0."""
    return sum(_points(alpha)) * deviation / math.sqrt(n)


def further(n: int, z: float, alpha: float) -> int | None:
    """How many more pairs, beside n, would probably decide, if what they show is what n showed; None for z = 0.

    `z` is the statistic that the n pairs gave: it grows with the square root of their number.
    """
    if z == 0:
        return None
    return max(1, math.ceil(n * ((sum(_points(alpha)) / z) ** 2 - 1)))


def _points(alpha: float) -> tuple[float, float]:
    from scipy.special import ndtri

    return float(ndtri(1 - alpha / 2)), float(ndtri(POWER))


def _smallest(needed: Callable[[float], float], n: int, most: float) -> float | None:
    """Least difference up to `most` for which n is enough; `needed` decreases."""
    if needed(most) > n:
        return None
    low, high = 0.0, most
    while high - low > 1e-9:
        middle = (low + high) / 2
        if needed(middle) > n:
            low = middle
        else:
            high = middle
    return high
