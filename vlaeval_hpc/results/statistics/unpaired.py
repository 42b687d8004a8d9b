"""Two shares of different things, which do not pair: failures of nodes in two runs."""

from __future__ import annotations

import math

from vlaeval_hpc.results.statistics.intervals import Interval, wilson


def newcombe(successes: int, n: int, before: int, before_n: int) -> Interval:
    """Newcombe's hybrid score interval, 95 %, for the difference of two independent rates: the first less `before`.

    Source: R. G. Newcombe 1998, Statistics in Medicine 17:873, method 10,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    rate, other = successes / n, before / before_n
    mine, theirs = wilson(successes, n), wilson(before, before_n)
    low = rate - other - math.hypot(rate - mine.low, theirs.high - other)
    high = rate - other + math.hypot(mine.high - rate, other - theirs.low)
    return Interval(low, high)


def fisher(successes: int, n: int, before: int, before_n: int) -> float:
    """Fisher's exact p, two-sided, of no difference between two independent rates: all tables as unlikely as this one.

    Source: R. A. Fisher 1935, The Design of Experiments, chapter 2. Computed by scipy.
    """
    from scipy.stats import fisher_exact

    table = [[successes, n - successes], [before, before_n - before]]
    return float(fisher_exact(table)[1])
