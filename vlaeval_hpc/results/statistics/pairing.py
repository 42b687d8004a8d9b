"""Two policies on the same episodes: tests and intervals for what differs between the members of pairs.

A pair is one (task, episode) done by both. Where the outcome is success or none, all that tells is the flips: `gained`
pairs that only the second policy won, `lost` ones that only the first won.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vlaeval_hpc.results.statistics.intervals import Interval, Z

EXACT = 16  # pairs that differ up to which every assignment of signs is looked at: 65,536 of them
DRAWS = 9_999  # beyond: the least p is 1 / 10,000, below 0.05 / 45 for the pairs of ten runs
SEED = 20260101  # the same data give the same p
BLOCK = 1 << 21  # signs held at once: 16 MB


def mcnemar(gained: int, lost: int) -> float:
    """Exact p, two-sided, of no difference between two rates over the same episodes.

    Given how many flips there were, each went either way with probability 1/2: twice the smaller binomial tail. It
    never errs more often than it says, and less often where flips are few.
    Source: Q. McNemar 1947, Psychometrika 12:153, doi:10.1007/BF02295996; the exact conditional form as in
    M. W. Fagerland, S. Lydersen and P. Laake 2013, BMC Medical Research Methodology 13:91,
    doi:10.1186/1471-2288-13-91.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def tango_z(gained: int, lost: int, n: int, margin: float) -> float:
    """Score statistic of "the rates of n pairs differ by `margin`", about standard normal where they do.

    -1 < margin < 1; positive where the difference seen is larger. At margin 0 it is McNemar's without correction.
    Source: T. Tango 1998, Statistics in Medicine 17:891,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B.
    """
    # The most likely probability of a lost pair, given the margin: the positive root of 2n x^2 + linear x + constant.
    linear = -gained - lost + (2 * n - gained + lost) * margin
    constant = -lost * margin * (1 - margin)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    losing = (root - linear) / (4 * n)
    variance = n * (2 * losing + margin * (1 - margin))
    distance = gained - lost - n * margin
    if variance <= 1e-12 * n:  # no flip at all and margin 0, or a margin that no outcome contradicts
        return 0.0 if abs(distance) < 1e-9 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def tango(gained: int, lost: int, n: int) -> Interval:
    """Tango's score interval, 95 %, for the difference of two rates over the same n episodes, second minus first.

    All differences that `tango_z` does not reject: unlike Newcombe's for pairs it belongs to a test, at any margin.
    With few flips it can leave 0 out where the exact `mcnemar` does not reject. Source: as `tango_z`; beside others in
    M. W. Fagerland, S. Lydersen and P. Laake 2014, Statistics in Medicine 33:2850, doi:10.1002/sim.6148.
    """
    estimate = (gained - lost) / n
    low = _crossing(lambda d: tango_z(gained, lost, n, d) - Z, -1.0, estimate)
    high = _crossing(lambda d: tango_z(gained, lost, n, d) + Z, estimate, 1.0)
    return Interval(low, high)


def shifted(gained: int, lost: int, n: int, margin: float) -> float:
    """p, two-sided, of "the second rate is the first plus `margin`", over n pairs: exact at 0, Tango's score else.

    A difference beyond a margin is a difference: p is never less than `mcnemar`'s for what lies beyond it, so that
    asking for more is never easier.
    """
    if margin == 0:
        return mcnemar(gained, lost)
    z = tango_z(gained, lost, n, margin)
    score = math.erfc(abs(z) / math.sqrt(2))
    return max(score, mcnemar(gained, lost)) if z * margin > 0 else score


def sign_flip(differences: Sequence[float]) -> float:
    """p, two-sided, of "these differences are as likely with the other sign", for graded metrics.

    The sum is compared with the sums under random signs: all of them where at most EXACT differences are not 0, else
    DRAWS random ones from a fixed seed, among which the signs as seen count as one, so that p is never 0.
    Source: R. A. Fisher 1935, The Design of Experiments, section 21; random draws: B. Phipson and G. K. Smyth 2010,
    Statistical Applications in Genetics and Molecular Biology 9:39, doi:10.2202/1544-6115.1585.
    """
    import numpy as np

    values = np.array([d for d in differences if d != 0], dtype=np.float64)
    if not len(values):
        return 1.0
    seen = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())  # equal sums differ by rounding
    if len(values) <= EXACT:
        patterns = np.arange(1 << len(values))[:, None] >> np.arange(len(values)) & 1
        sums = values.sum() - 2 * patterns @ values
        return float(np.mean(np.abs(sums) >= seen))
    chance = np.random.default_rng(SEED)
    beyond, left = 0, DRAWS
    while left:
        rows = min(left, max(1, BLOCK // len(values)))
        bits = np.unpackbits(np.frombuffer(chance.bytes(rows * (-(-len(values) // 8))), np.uint8).reshape(rows, -1), 1)
        sums = values.sum() - 2 * (bits[:, : len(values)].astype(np.float64) @ values)
        beyond += int(np.count_nonzero(np.abs(sums) >= seen))
        left -= rows
    return (beyond + 1) / (DRAWS + 1)


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a decreasing function is 0: bisection to the last bit that matters, without scipy's import."""
    while high - low > 1e-12:
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
