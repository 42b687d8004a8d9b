"""Looking while episodes come in: a test that stays valid however often, and whenever, one looks.

Evidence is an e-value: where there is nothing to find it ever exceeds 1 / alpha with probability at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Flips = Mapping[tuple[str, str], tuple[int, int]]
"""(policy, another) -> episodes that only the policy won, and that only the other won; each pair in one order."""


def evidence(gained: int, lost: int) -> float:
    """Logarithm of the e-value against "the second policy is not better", from the flips of pairs so far.

    The likelihood of the flips where each goes the second's way with probability p, averaged over p from 1/2 to 1, to
    that at 1/2: for every p it is a product of 1 + (2p - 1) d over the pairs' differences d, whose expected value is
    at most 1 where the mean of d is at most 0. So it holds after any whole number of rounds, in each of which every
    task comes equally often, though the difference varies between tasks (the mean of products of independent factors
    is at most the power of their mean).
    Sources: H. Robbins 1970, Annals of Mathematical Statistics 41:1397, doi:10.1214/aoms/1177696786 (mixtures);
    I. Waudby-Smith and A. Ramdas 2024, JRSS B 86:1, doi:10.1093/jrsssb/qkad009 (betting on bounded means).
    """
    from scipy.special import betainc, betaln

    tail = float(betainc(lost + 1, gained + 1, 0.5))
    if tail == 0.0:
        return -math.inf
    return (gained + lost + 1) * math.log(2) + float(betaln(gained + 1, lost + 1)) + math.log(tail)


def clearly_worse(policies: Sequence[str], flips: Flips, alpha: float) -> list[str]:
    """Those that are worse than another, by the average of their e-values against all others.

    With probability 1 - alpha none is among them, at any look, that is as good as the best: the average is an e-value
    of "none of the others is better", and of k policies each is tested at alpha / k. What was stopped stays in
    `policies`, with the flips that it had.
    """
    from scipy.special import logsumexp

    found = []
    for policy in policies:
        against = [evidence(*_flips(flips, policy, other)) for other in policies if other != policy]
        if against and float(logsumexp(against)) - math.log(len(against)) >= math.log(len(policies) / alpha):
            found.append(policy)
    return found


def _flips(flips: Flips, policy: str, other: str) -> tuple[int, int]:
    """Episodes that only `other` won, and that only `policy` won."""
    if (policy, other) in flips:
        won, lost = flips[policy, other]
        return lost, won
    return flips.get((other, policy), (0, 0))
