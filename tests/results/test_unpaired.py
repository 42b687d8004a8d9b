from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.results.statistics.unpaired import fisher, newcombe

rates = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "before", "before_n", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),  # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
        (9, 10, 3, 10, 0.1705, 0.8090),
        (10, 10, 0, 20, 0.6791, 1.0),
        (7, 34, 1, 34, 0.0189, 0.3404),  # Fagerland, Lydersen and Laake 2017, chapter 4
    ],
)
def test_newcombe_gives_published_values(
    successes: int, n: int, before: int, before_n: int, low: float, high: float
) -> None:
    found = newcombe(successes, n, before, before_n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(rates, rates)
def test_newcombe_holds_the_difference_and_is_symmetric(one: tuple[int, int], other: tuple[int, int]) -> None:
    found, mirrored = newcombe(*one, *other), newcombe(*other, *one)
    difference = one[0] / one[1] - other[0] / other[1]
    assert -1 - 1e-9 <= found.low <= difference <= found.high <= 1 + 1e-9
    assert mirrored.low == pytest.approx(-found.high)


def test_fisher_is_the_lady_tasting_tea() -> None:
    assert fisher(3, 4, 1, 4) == pytest.approx(34 / 70)  # Fisher 1935, chapter 2: 17 of 70 in one tail
    assert round(fisher(7, 34, 1, 34), 4) == 0.0544
