"""Looking while episodes come in: evidence against published forms of it, and how often it errs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom

from vlaeval_hpc.results.statistics.sequential import clearly_worse, evidence


@given(st.integers(0, 60), st.integers(0, 60))
def test_evidence_is_the_mean_likelihood_ratio(gained: int, lost: int) -> None:
    """By numerical integration over p of p^gained (1 - p)^lost / 2^-(gained + lost), p uniform from 1/2 to 1."""
    mean, _ = quad(lambda p: (2 * p) ** gained * (2 - 2 * p) ** lost, 0.5, 1)
    assert math.exp(evidence(gained, lost)) == pytest.approx(2 * mean, rel=1e-6)


@given(st.integers(1, 40))
def test_its_expected_value_is_one_where_there_is_no_difference(n: int) -> None:
    """Over all outcomes of n flips, each either way with probability 1/2; and below 1 where the first is better."""
    for p, most in ((0.5, 1.0), (0.4, 1.0)):
        expected = sum(binom.pmf(k, n, p) * math.exp(evidence(k, n - k)) for k in range(n + 1))
        assert expected == pytest.approx(1.0) if p == 0.5 else expected <= most


@given(st.integers(0, 500), st.integers(0, 500))
def test_more_gained_is_more_evidence(gained: int, lost: int) -> None:
    assert evidence(gained + 1, lost) > evidence(gained, lost) or evidence(gained, lost) == -math.inf
    assert evidence(gained, lost + 1) <= evidence(gained, lost)


def test_no_flips_are_no_evidence_and_many_are_no_overflow() -> None:
    assert evidence(0, 0) == pytest.approx(0.0)
    assert evidence(100_000, 0) > 60_000 and evidence(0, 100_000) < -10


def test_tasks_may_differ_so_long_as_they_come_equally_often() -> None:
    """Better on one task by as much as worse on another: no difference, whatever the order of the tasks."""
    rng = np.random.default_rng(3)
    crossed = 0
    for _ in range(400):
        up = rng.random((100, 2)) < (0.8, 0.1)
        down = ~up & (rng.random((100, 2)) < (0.5, 0.7778))
        flips = np.cumsum(np.stack([up.sum(1), down.sum(1)], 1), 0)
        crossed += any(evidence(int(g), int(n)) > math.log(20) for g, n in flips[::5])
    assert crossed / 400 <= 0.05


def test_who_is_clearly_worse() -> None:
    flips = {("a", "b"): (0, 30), ("a", "c"): (2, 25), ("b", "c"): (9, 7)}
    assert clearly_worse(["a", "b", "c"], flips, 0.05) == ["a"]
    assert clearly_worse(["a", "b", "c"], {pair: (won, lost) for pair, (lost, won) in flips.items()}, 1e-12) == []
    assert clearly_worse(["a"], {}, 0.05) == []
    assert clearly_worse(["a", "b"], {}, 0.05) == []


def test_ten_equal_ones_are_seldom_told_apart_however_often_one_looks() -> None:
    rng = np.random.default_rng(4)
    names = [str(i) for i in range(10)]
    stopped = 0
    for _ in range(60):
        won = rng.random((10, 200)) < 0.6
        for n in range(20, 201, 20):
            up = won[:, :n].astype(int) @ (~won[:, :n]).astype(int).T
            flips = {(names[i], names[j]): (int(up[i, j]), int(up[j, i])) for i in range(10) for j in range(i)}
            if clearly_worse(names, flips, 0.05):
                stopped += 1
                break
    assert stopped / 60 <= 0.05
