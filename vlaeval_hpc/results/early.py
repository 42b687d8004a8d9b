"""sweep.stop=early: when points are looked at, and what of their episodes counts then."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from vlaeval_hpc.results.outcomes import Key, Outcomes, check_pairing, values

EARLY = "early"
LOOKS = (0.1, 0.2, 0.3, 0.45, 0.7, 1.0)
"""Shares of each task's episodes after which points are looked at: a server starts anew for each."""


def flips(runs: Sequence[Outcomes]) -> dict[tuple[str, str], tuple[int, int]]:
    """(run, another) -> episodes that only the run won, and that only the other won, over the rounds that both have.

    A round is one episode of every task: the test wants tasks equally often. Raises ConfigurationError where the runs
    do not pair.
    """
    check_pairing(runs)
    tasks = set[str]().union(*(run.tasks for run in runs))
    rounds = {run.name: _rounds(run, tasks) for run in runs}
    data = {run.name: values(run, "success", run.episodes).found for run in runs}
    found = {}
    for one, other in itertools.combinations(runs, 2):
        last = min(rounds[one.name], rounds[other.name])
        mine, theirs = data[one.name], data[other.name]
        keys: list[Key] = [key for key in mine if key[1] < last and key in theirs]
        won = sum(mine[key] > theirs[key] for key in keys)
        lost = sum(mine[key] < theirs[key] for key in keys)
        found[one.name, other.name] = (won, lost)
    return found


def _rounds(run: Outcomes, tasks: set[str]) -> int:
    """How many episodes, from the first, every task has."""
    count = 0
    while tasks and all((task, count) in run.episodes for task in tasks):
        count += 1
    return count
