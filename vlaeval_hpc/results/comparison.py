"""Comparing runs over the same episodes: who is better, by how much, and how sure that is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.results.outcomes import Key, Outcomes, Values, check_metric, check_pairing, values
from vlaeval_hpc.results.statistics.intervals import Interval, clustered, student, wilson
from vlaeval_hpc.results.statistics.multiplicity import holm, letters, optimism
from vlaeval_hpc.results.statistics.pairing import shifted, sign_flip, tango, tango_z
from vlaeval_hpc.results.statistics.power import further, smallest_mean, smallest_paired, smallest_unpaired
from vlaeval_hpc.results.statistics.unpaired import fisher, newcombe


@dataclass
class RunRow:
    """A run by itself: `mean` over its n episodes that count, with 95 % intervals; `over_tasks` of a rate only.

    Runs that share none of `letters` differ, by the tests of all pairs.
    """

    name: str
    n: int
    mean: float
    interval: Interval | None
    over_tasks: Interval | None
    left_out: dict[str, int]
    policy_failures: dict[str, int]
    letters: str = ""


@dataclass
class Paired:
    """Pairs of episodes: their number, in how many the second run is above or below, the mean difference, p."""

    n: int
    gained: int
    lost: int
    difference: float
    interval: Interval | None
    p: float


@dataclass
class TaskRow(Paired):
    """A task's pairs; p_adjusted by Holm over the tasks. It stands out where that is small, and the difference over
    all tasks is none that its interval holds."""

    task: str
    p_adjusted: float = 1.0
    stands_out: bool = False


@dataclass
class Failures:
    """Episodes left out for failures: the second run's share less the first's."""

    difference: float
    interval: Interval
    p: float


@dataclass
class PairRow(Paired):
    """A run against the baseline; p is of "no more and no less than min_difference".

    `z` is the statistic behind it. `smallest` differences would have shown in 80 % of such comparisons, between pairs
    and between as many episodes that do not pair; None where n shows none. `more_episodes` is about how many further
    pairs would decide what is inconclusive, None for no difference at all. `flips` are the pairs of a rate that differ;
    `videos`, where any was recorded, the baseline's and this run's of each flip.
    """

    name: str
    z: float
    tasks: list[TaskRow]
    flips: list[tuple[str, int, str]]
    failures: Failures | None
    videos: list[tuple[str | None, str | None]] = field(default_factory=list)
    p_adjusted: float = 1.0
    verdict: str = "inconclusive"
    more_episodes: int | None = None
    smallest: float | None = None
    smallest_unpaired: float | None = None


@dataclass
class Best:
    """The highest mean, the runs not told from it, and by how much it is expected to be too high were all equal."""

    name: str
    of: list[str]
    optimism: float


@dataclass
class Comparison:
    """Runs against a baseline; means and differences are fractions for a rate, min_difference is as it was given."""

    benchmark: str
    metric: str
    rate: bool
    baseline: str
    alpha: float
    min_difference: float
    runs: list[RunRow]
    pairs: list[PairRow] = field(default_factory=list)
    best: Best | None = None


def compare(
    runs: Sequence[Outcomes],
    baseline: str | None = None,
    metric: str = "success",
    min_difference: float = 0.0,
    alpha: float = 0.05,
) -> Comparison:
    """Compare all runs with the baseline (default: the first), and for the letters all with each other.

    min_difference is in points for a rate, in the metric's own units else. Raises ConfigurationError where runs do not
    pair, have no episode in common, the metric or the baseline is none of theirs, or a number makes no sense.
    """
    names = [run.name for run in runs]
    chosen = names[0] if baseline is None else baseline
    if chosen not in names:
        raise unknown("baseline", chosen, names)
    check_pairing(runs)
    rate = check_metric(runs, metric)
    margin = min_difference / 100 if rate else min_difference
    if not 0 < alpha < 1:
        raise ConfigurationError(f"alpha {alpha:g}: valid: between 0 and 1")
    if not math.isfinite(margin) or (rate and not -1 < margin < 1):
        raise ConfigurationError(f"min-difference {min_difference:g}: valid: between -100 and 100 points")
    every = sorted({key for run in runs for key in run.episodes})
    data = {run.name: values(run, metric, every) for run in runs}
    for one, other in itertools.combinations(names, 2):
        if not data[one].found.keys() & data[other].found.keys():
            raise ConfigurationError(f"{one} and {other}: no episode that both completed")
    found = Comparison(runs[0].identity["benchmark"], metric, rate, chosen, alpha, min_difference, [])
    found.runs = [_run(name, data[name], rate) for name in names]
    found.pairs = [_pair(name, data[chosen], data[name], margin, rate) for name in names if name != chosen]
    base = next(run for run in runs if run.name == chosen)
    for pair in found.pairs:
        run = next(run for run in runs if run.name == pair.name)
        videos = [(base.video((task, n)), run.video((task, n))) for task, n, _ in pair.flips]
        pair.videos = videos if any(map(any, videos)) else []
    _judge(found, margin)
    _tell_apart(found, data)
    return found


def _run(name: str, data: Values, rate: bool) -> RunRow:
    numbers = list(data.found.values())
    interval, over_tasks = student(numbers), None
    if rate:
        interval = wilson(int(sum(numbers)), len(numbers))
        over_tasks = clustered([(int(sum(v.values())), len(v)) for v in _by_task(data.found).values()])
    mean = math.fsum(numbers) / len(numbers)
    return RunRow(name, len(numbers), mean, interval, over_tasks, data.left_out, data.counted)


def _pair(name: str, base: Values, data: Values, margin: float, rate: bool) -> PairRow:
    differences = _differences(base, data)
    paired = _paired(differences, margin, rate)
    tasks = [TaskRow(**vars(_paired(d, 0.0, rate)), task=task) for task, d in _by_task(differences).items()]
    for row, p in zip(tasks, holm([row.p for row in tasks]), strict=True):
        row.p_adjusted = p
    flips = [(*key, "gained" if d > 0 else "lost") for key, d in differences.items() if d] if rate else []
    if rate:
        z = tango_z(paired.gained, paired.lost, paired.n, margin)
    else:
        deviation = _deviation(differences)
        z = (paired.difference - margin) / deviation * math.sqrt(paired.n) if deviation else 0.0
    return PairRow(**vars(paired), name=name, z=z, tasks=tasks, flips=flips, failures=_failures(base, data))


def _paired(differences: Mapping[Key, float], margin: float, rate: bool) -> Paired:
    numbers = list(differences.values())
    n, gained, lost = len(numbers), sum(d > 0 for d in numbers), sum(d < 0 for d in numbers)
    if rate:
        return Paired(n, gained, lost, (gained - lost) / n, tango(gained, lost, n), shifted(gained, lost, n, margin))
    p = sign_flip([d - margin for d in numbers])
    return Paired(n, gained, lost, math.fsum(numbers) / n, student(numbers), p)


def _judge(found: Comparison, margin: float) -> None:
    """Holm over the pairs with the baseline; a verdict for each, and what would have shown or would decide."""
    better, worse = ("better", "worse") if found.metric == "success" else ("higher", "lower")
    for pair, p in zip(found.pairs, holm([pair.p for pair in found.pairs]), strict=True):
        pair.p_adjusted = p
        for task in pair.tasks:
            beyond = task.interval is not None and not task.interval.low <= pair.difference <= task.interval.high
            task.stands_out = beyond and task.p_adjusted <= found.alpha
        if p <= found.alpha:
            pair.verdict = better if pair.difference > margin else worse
    open_pairs = [pair for pair in found.pairs if pair.verdict == "inconclusive"]
    base = next(run for run in found.runs if run.name == found.baseline)
    strict = found.alpha / len(found.pairs)  # what Holm asks of the first of them
    for pair in found.pairs:
        if found.rate:
            pair.smallest = smallest_paired(pair.n, (pair.gained + pair.lost) / pair.n, strict)
            pair.smallest_unpaired = smallest_unpaired(pair.n, base.mean, strict)
        elif pair.z:
            deviation = (pair.difference - margin) / pair.z * math.sqrt(pair.n)
            pair.smallest = smallest_mean(pair.n, deviation, strict)
    for pair in open_pairs:
        pair.more_episodes = further(pair.n, pair.z, found.alpha / len(open_pairs))


def _tell_apart(found: Comparison, data: Mapping[str, Values]) -> None:
    """Letters from all pairs, and what to think of the highest."""
    pairs = list(itertools.combinations([run.name for run in found.runs], 2))
    ps = [_paired(_differences(data[one], data[other]), 0.0, found.rate).p for one, other in pairs]
    different = {pair for pair, p in zip(pairs, holm(ps), strict=True) if p <= found.alpha}
    order = [run.name for run in sorted(found.runs, key=lambda run: -run.mean)]
    shown = letters(order, different)
    for run in found.runs:
        run.letters = shown[run.name]
    top = order[0]
    rivals = [name for name in order if (top, name) not in different and (name, top) not in different]
    common = sorted(set.intersection(*(set(data[name].found) for name in rivals)))
    excess = optimism([[data[name].found[key] for key in common] for name in rivals])
    if excess:
        found.best = Best(top, rivals, excess)


def _failures(base: Values, data: Values) -> Failures | None:
    mine, n = data.failed, len(data.found) + data.failed
    theirs, other = base.failed, len(base.found) + base.failed
    if (mine, n) == (theirs, other) or not mine + theirs:
        return None
    return Failures(mine / n - theirs / other, newcombe(mine, n, theirs, other), fisher(mine, n, theirs, other))


def _differences(base: Values, data: Values) -> dict[Key, float]:
    return {key: value - base.found[key] for key, value in data.found.items() if key in base.found}


def _deviation(differences: Mapping[Key, float]) -> float:
    numbers = list(differences.values())
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((d - mean) ** 2 for d in numbers) / max(len(numbers) - 1, 1))


def _by_task(numbers: Mapping[Key, float]) -> dict[str, dict[Key, float]]:
    tasks: dict[str, dict[Key, float]] = {}
    for key, value in numbers.items():
        tasks.setdefault(key[0], {})[key] = value
    return tasks
