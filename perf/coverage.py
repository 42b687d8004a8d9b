"""Do the intervals cover, and do the tests err, as often as they say? The table of docs/statistics.md.

    python perf/coverage.py

Rates by complete enumeration where there are two outcomes, the rest by simulation from a fixed seed. The intervals are
of 95 %. Policies succeed in an episode with its own probability, which varies from episode to episode (beta
distributed, with the rate as its mean), so that outcomes of two policies are correlated as real ones are. Exits with 1
where an interval covers less, or a test errs more, than documented.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable

import numpy as np
from scipy.stats import binom, norm

from vlaeval_hpc.results.early import LOOKS
from vlaeval_hpc.results.statistics.intervals import Interval, clopper_pearson, clustered, student, wilson
from vlaeval_hpc.results.statistics.multiplicity import holm, optimism
from vlaeval_hpc.results.statistics.pairing import mcnemar, shifted, sign_flip, tango
from vlaeval_hpc.results.statistics.power import further, smallest_paired
from vlaeval_hpc.results.statistics.sequential import clearly_worse
from vlaeval_hpc.results.statistics.unpaired import newcombe

ROUNDS = 4000
EARLY_ROUNDS = 400
RATES = np.linspace(0.02, 0.98, 97)
CHANCE = np.random.default_rng(1)
failed: list[str] = []


def main() -> int:
    print("| what | where | wanted | found |\n| --- | --- | --- | --- |")
    rates()
    paired()
    tasks()
    graded()
    sweeps()
    gates()
    sizes()
    early()
    print("as documented" if not failed else f"NOT AS DOCUMENTED: {'; '.join(failed)}")
    return 1 if failed else 0


def row(what: str, where: str, wanted: tuple[float, float], found: float, more: str = "") -> None:
    """Print it, in percent; remember where it is not as wanted."""
    low, high = wanted
    if not low <= found <= high:
        failed.append(f"{what}, {where}: {found:.4f}")
    bounds = f"{100 * low:g} to {100 * high:g} %" if low > 0 else f"at most {100 * high:g} %"
    print(f"| {what} | {where} | {bounds} | {100 * found:.1f} %{more} |", flush=True)


def share(hits: Iterable[bool]) -> float:
    return float(np.mean(list(hits)))


def covers(interval: Interval | None, value: float) -> bool:
    return interval is not None and interval.low - 1e-9 <= value <= interval.high + 1e-9


def rates() -> None:
    """Over 97 rates, each by all outcomes that there are."""
    methods: list[tuple[str, Callable[[int, int], Interval], tuple[float, float]]] = [
        ("Wilson", wilson, (0.94, 0.96)),
        ("Clopper-Pearson (conservative)", clopper_pearson, (0.95, 0.99)),
    ]
    for (name, method, wanted), n in itertools.product(methods, (50, 500)):
        intervals = [method(k, n) for k in range(n + 1)]
        each = [binom.pmf([k for k in range(n + 1) if covers(intervals[k], p)], n, p).sum() for p in RATES]
        row(name, f"n = {n}, mean over rates", wanted, float(np.mean(each)), f", least {100 * min(each):.1f} %")
    n, other = 500, 500
    intervals = [[newcombe(k, n, j, other) for j in range(60)] for k in range(60)]
    for p, q in ((0.02, 0.02), (0.05, 0.01)):
        weights = np.outer(binom.pmf(range(60), n, p), binom.pmf(range(60), other, q))
        hit = np.array([[covers(interval, p - q) for interval in line] for line in intervals])
        row("Newcombe, unpaired", f"n = {n}, {p:g} against {q:g}", (0.94, 0.97), float((weights * hit).sum()))


def episodes(rate: float, n: int, policies: int, spread: float = 2.0) -> np.ndarray:
    """Outcomes (policies, n) of equally good policies; the smaller `spread`, the more alike they are."""
    probability = CHANCE.beta(rate * spread, (1 - rate) * spread, size=n)
    return CHANCE.random((policies, n)) < probability


@functools.cache
def tango_cached(gained: int, lost: int, n: int) -> Interval:
    return tango(gained, lost, n)


@functools.cache
def mcnemar_cached(gained: int, lost: int) -> float:
    return mcnemar(gained, lost)


@functools.cache
def shifted_cached(gained: int, lost: int, n: int, margin: float) -> float:
    return shifted(gained, lost, n, margin)


def paired() -> None:
    """The difference of two policies: `up` and `down` are the probabilities of a pair gained and lost."""
    for n, (up, down) in itertools.product((50, 500), ((0.10, 0.10), (0.15, 0.05), (0.04, 0.02))):
        draws = CHANCE.multinomial(n, (up, down, 1 - up - down), size=5 * ROUNDS)
        found = share(covers(tango_cached(int(b), int(c), n), up - down) for b, c, _ in draws)
        row("Tango, paired difference", f"n = {n}, {up:g} gained, {down:g} lost", (0.94, 0.97), found)


def tasks() -> None:
    """The rate over all tasks that there could be, of which G were drawn."""
    for groups, size, spread in ((5, 50, 10.0), (10, 50, 10.0), (10, 50, 3.0), (50, 10, 3.0), (90, 20, 3.0)):
        for rate in (0.5, 0.9):
            task_rates = CHANCE.beta(rate * spread, (1 - rate) * spread, size=(ROUNDS, groups))
            counts = CHANCE.binomial(size, task_rates)
            found = share(covers(clustered([(int(k), size) for k in line]), rate) for line in counts)
            deviation = 100 * (rate * (1 - rate) / (spread + 1)) ** 0.5
            where = f"{groups} tasks of {size}, {100 * rate:g} % with deviation {deviation:.0f} over tasks"
            row("Korn-Graubard, over tasks", where, (0.92, 1.0), found)


def graded() -> None:
    """Differences of a graded metric between 0 and 1, skewed as progress is."""
    for n in (20, 200):
        one, other = CHANCE.beta(2, 0.5, size=(2, ROUNDS, n))
        differences = other - one
        row("Student, graded difference", f"n = {n}", (0.94, 0.96), share(covers(student(d), 0.0) for d in differences))
    differences = differences[:500, :50]
    row("sign flips, graded, p < 0.05", "n = 50", (0.0, 0.075), share(sign_flip(d) < 0.05 for d in differences))


def sweeps() -> None:
    """Ten equal checkpoints on the same episodes: any verdict is false."""
    for rate, n in ((0.5, 500), (0.9, 500), (0.98, 500), (0.9, 50)):
        first, everywhere, naive = [], [], []
        for _ in range(ROUNDS):
            won = episodes(rate, n, 10).astype(np.int64)
            both = won @ won.T
            total = won.sum(1)
            pairs = list(itertools.combinations(range(10), 2))
            ps = [mcnemar_cached(int(total[j] - both[i, j]), int(total[i] - both[i, j])) for i, j in pairs]
            first.append(any(p <= 0.05 and total[j] > total[0] for j, p in enumerate(holm(ps[:9]), start=1)))
            everywhere.append(min(holm(ps)) <= 0.05)
            naive.append(min(ps) <= 0.05)
        where = f"10 equal of {100 * rate:g} %, n = {n}"
        row("any false better than the first (Holm)", where, (0.0, 0.05), share(first))
        row(
            "any pair falsely told apart (Holm)",
            where,
            (0.0, 0.05),
            share(everywhere),
            f"; no Holm: {100 * share(naive):.0f} %",
        )


def stopped(won: np.ndarray) -> tuple[list[int], float]:
    """Who is stopped, and the share of episodes that are run, of `won` (policies, rounds, tasks)."""
    count, rounds, _ = won.shape
    names = [str(i) for i in range(count)]
    done, out = np.zeros(count, dtype=np.int64), list[int]()
    for look in LOOKS:
        done[[i for i in range(count) if i not in out]] = math.ceil(look * rounds)
        if look == LOOKS[-1]:
            break
        flips = {}
        for i, j in itertools.combinations(range(count), 2):
            one, other = won[i, : min(done[i], done[j])], won[j, : min(done[i], done[j])]
            flips[names[i], names[j]] = int((one & ~other).sum()), int((other & ~one).sum())
        out += [int(name) for name in clearly_worse(names, flips, 0.05) if int(name) not in out]
    return out, float(done.sum()) / (count * rounds)


def early() -> None:
    """sweep.stop=early: equal checkpoints, of which any stop is false, and sweeps along a training run."""
    for rate, rounds in ((0.5, 50), (0.9, 50), (0.9, 5)):
        wrong = [bool(stopped(episodes(rate, 10 * rounds, 10).reshape(10, rounds, 10))[0]) for _ in range(EARLY_ROUNDS)]
        row("any falsely stopped early", f"10 equal of {100 * rate:g} %, n = {10 * rounds}", (0.0, 0.05), share(wrong))
    rising = (0.05, 0.20, 0.40, 0.55, 0.65, 0.72, 0.78, 0.82, 0.85, 0.86)
    seven = (0.0, 0.27, 0.60, 0.76, 0.94, 0.98, 0.99)
    for what, rates, rounds, n_tasks in (
        ("rising to 86 %", rising, 50, 10),
        ("rising to 86 %", rising, 50, 40),
        ("as bc's seven", seven, 50, 5),
    ):
        used, kept = [], []
        for _ in range(EARLY_ROUNDS // 4):
            # How hard an episode is is the same for all: a better checkpoint wins what a worse one wins, and more.
            hard = CHANCE.standard_normal((1, rounds, n_tasks))
            luck = CHANCE.standard_normal((len(rates), rounds, n_tasks))
            won = (hard + luck) / 2**0.5 < norm.ppf(rates)[:, None, None]
            out, part = stopped(won)
            used.append(part)
            kept.append(len(rates) - 1 not in out)
        where = f"{len(rates)} checkpoints, {what}, n = {rounds * n_tasks}"
        row("episodes run, stopping early", where, (0.0, 0.6), float(np.mean(used)))
        row("the best is kept", where, (0.95, 1.0), share(kept))


def gates() -> None:
    """A gate with a margin, where the truth lies on it: either verdict is false."""
    for n, margin, down in ((50, -0.05, 0.10), (500, -0.02, 0.04), (500, 0.02, 0.02), (500, 0.05, 0.02)):
        up = down + margin
        draws = CHANCE.multinomial(n, (up, down, 1 - up - down), size=5 * ROUNDS)
        wrong = share(shifted_cached(int(b), int(c), n, margin) <= 0.05 for b, c, _ in draws)
        row("false verdict at the margin", f"n = {n}, margin {100 * margin:+g} points", (0.0, 0.06), wrong)


def sizes() -> None:
    """What is said of power, of further episodes, and of the highest of several."""
    for n, flips in ((200, 0.1), (500, 0.05), (2000, 0.05)):
        difference = smallest_paired(n, flips, 0.05)
        assert difference is not None
        total = max(flips, difference)
        up, down = (total + difference) / 2, (total - difference) / 2
        draws = CHANCE.multinomial(n, (up, down, 1 - up - down), size=ROUNDS)
        found = share(mcnemar_cached(int(b), int(c)) <= 0.05 for b, c, _ in draws)
        where = f"n = {n}, {100 * flips:g} % flips: {100 * difference:.1f} points"
        row("shown where it is `smallest`", where, (0.75, 0.85), found)
    n, gained, lost = 200, 14, 8
    more = further(n, (gained - lost) / (gained + lost) ** 0.5, 0.05)
    assert more is not None
    shares = (gained / n, lost / n, 1 - (gained + lost) / n)
    draws = CHANCE.multinomial(n + more, shares, size=ROUNDS)
    found = share(mcnemar_cached(int(b), int(c)) <= 0.05 for b, c, _ in draws)
    row("decided after `more`", f"{gained} gained, {lost} lost of {n}: {more} more", (0.75, 0.85), found)
    for rate in (0.5, 0.9):
        excess, told = [], []
        for _ in range(ROUNDS // 4):
            won = episodes(rate, 500, 10)
            expected = won.mean()  # equally good: how hard the episodes are is no one's luck
            excess.append(won.mean(1).max() - expected)
            told.append(optimism(won))
        ratio = float(np.mean(told) / np.mean(excess))
        where = f"10 equal of {100 * rate:g} %, n = 500: {100 * np.mean(excess):.2f} points"
        row("`optimism`, told of found", where, (0.9, 1.1), ratio)


if __name__ == "__main__":
    sys.exit(main())
