from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from vlaeval_hpc.results.statistics.intervals import Z, clopper_pearson, clustered, student, t_quantile, wilson


def test_z_is_the_normal_quantile() -> None:
    assert pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-14) == Z


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (48, 50, 86.5, 98.9),
        (475, 500, 92.7, 96.6),
        (1940, 2000, 96.2, 97.7),
        (81, 263, 25.53, 36.62),  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilson_gives_published_values(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    digits = 2 if round(low, 1) != low or round(high, 1) != high else 1
    assert (round(100 * found.low, digits), round(100 * found.high, digits)) == (low, high)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_is_symmetric(case: tuple[int, int]) -> None:
    successes, n = case
    found, mirrored = wilson(successes, n), wilson(n - successes, n)
    assert 0 <= found.low <= successes / n <= found.high <= 1
    assert mirrored.low == pytest.approx(1 - found.high) and mirrored.high == pytest.approx(1 - found.low)


def test_wilson_covers_about_as_often_as_it_says() -> None:
    chance = random.Random(1)
    covered = 0
    for _ in range(2000):
        successes = sum(chance.random() < 0.9 for _ in range(50))
        found = wilson(successes, 50)
        covered += found.low <= 0.9 <= found.high
    assert 0.93 < covered / 2000 < 0.985


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="no rate"):
        wilson(successes, n)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 25.27, 36.76),  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 5
        (15, 148, 5.78, 16.17),
        (0, 20, 0.0, 16.84),
        (1, 29, 0.09, 17.76),
    ],
)
def test_clopper_pearson_gives_published_values(successes: int, n: int, low: float, high: float) -> None:
    found = clopper_pearson(successes, n)
    assert (round(100 * found.low, 2), round(100 * found.high, 2)) == (low, high)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_leaves_a_fortieth_in_each_tail(case: tuple[int, int]) -> None:
    successes, n = case
    found = clopper_pearson(successes, n)
    if successes:
        assert binom.sf(successes - 1, n, found.low) == pytest.approx(0.025, rel=1e-6)
    if successes < n:
        assert binom.cdf(successes, n, found.high) == pytest.approx(0.025, rel=1e-6)
    with pytest.raises(ValueError, match="no rate"):
        clopper_pearson(n + 1, n)


def test_tasks_that_differ_as_chance_does_are_independent_episodes() -> None:
    # 100 tasks whose rates differ by less than chance makes them differ: no more is known than of 2000 episodes
    assert clustered([(16, 20), (17, 20), (15, 20)] * 34) == clopper_pearson(48 * 34, 60 * 34)
    assert clustered([(4, 5)] * 10) == clopper_pearson(40, 50)
    assert clustered([(20, 20)] * 5) == clopper_pearson(100, 100)
    assert clustered([(3, 7)]) is None


def test_clustered_has_the_variance_that_statsmodels_gives() -> None:
    counts = [(8, 10), (18, 20), (5, 10), (20, 20), (11, 20)]
    rate, variance = 62 / 80, 0.01062012  # statsmodels 0.15.0: OLS on a constant, cov_type="cluster"
    effective = (t_quantile(79) / t_quantile(4)) ** 2 * rate * (1 - rate) / variance
    found, expected = clustered(counts), clopper_pearson(rate * effective, effective)
    assert found is not None
    assert found.low == pytest.approx(expected.low, abs=1e-6) and found.high == pytest.approx(expected.high, abs=1e-6)


@given(st.lists(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=2))
def test_clustered_is_never_narrower_than_over_independent_episodes(counts: list[tuple[int, int]]) -> None:
    found = clustered(counts)
    successes, n = (sum(column) for column in zip(*counts, strict=True))
    exact = clopper_pearson(successes, n)
    assert found is not None
    assert 0 <= found.low <= exact.low + 1e-9 and exact.high - 1e-9 <= found.high <= 1


@pytest.mark.parametrize(
    ("degrees", "published"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_t_quantile_is_the_table(degrees: int, published: float) -> None:
    assert t_quantile(degrees) == pytest.approx(published, rel=2e-3)


def test_student() -> None:
    found = student([3, 4, 5, 4])
    assert found is not None
    assert found.low == pytest.approx(4 - 1.2992, abs=2e-3) and found.high == pytest.approx(4 + 1.2992, abs=2e-3)


@pytest.mark.parametrize("values", [[], [3], [5, 5, 5], [1, float("nan")], [1, float("inf")]])
def test_student_says_nothing_where_values_do_not_tell(values: list[float]) -> None:
    assert student(values) is None
