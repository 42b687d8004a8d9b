from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.results.statistics.power import further, smallest_mean, smallest_paired, smallest_unpaired


def test_95_against_97_percent_takes_1506_episodes_that_do_not_pair() -> None:
    assert smallest_unpaired(1506, 0.97, 0.05) == pytest.approx(0.02, abs=1e-5)
    assert smallest_unpaired(1504, 0.97, 0.05) > 0.02  # type: ignore[operator]


def test_fleiss_example() -> None:
    """Fleiss, Levin and Paik 2003, table A.4: 0.60 against 0.70 takes 376 with continuity correction, 356 without."""
    assert smallest_unpaired(356, 0.70, 0.05) == pytest.approx(0.1, abs=2e-4)


@pytest.mark.parametrize(("discordance", "difference"), [(0.2, 0.1), (0.5, 0.2), (0.0547, 0.02), (0.0325, 0.02)])
def test_smallest_paired_is_connors_formula_turned_round(discordance: float, difference: float) -> None:
    error, power = 1.959964, 0.841621
    n = ((error * math.sqrt(discordance) + power * math.sqrt(discordance - difference**2)) / difference) ** 2
    assert smallest_paired(round(n), discordance, 0.05) == pytest.approx(difference, rel=2e-2)


@given(st.integers(5, 100_000), st.floats(0, 1), st.sampled_from([0.05, 0.01, 0.001]))
def test_more_pairs_show_less_and_less(n: int, discordance: float, alpha: float) -> None:
    found, more = smallest_paired(n, discordance, alpha), smallest_paired(2 * n, discordance, alpha)
    if found is not None:
        assert more is not None and 0 < more < found <= 1


def test_too_few_show_nothing() -> None:
    assert smallest_paired(3, 0.5, 0.05) is None and smallest_unpaired(2, 0.9, 0.05) is None


def test_further() -> None:
    assert further(100, 1.959964, 0.05) == 105  # at p = 0.05 exactly half the power was there
    assert further(100, 0.0, 0.05) is None
    assert further(100, 10.0, 0.05) == 1
    assert further(100, 1.0, 0.01) > further(100, 1.0, 0.05) > further(100, -1.5, 0.05)  # type: ignore[operator]


def test_smallest_mean() -> None:
    assert smallest_mean(100, 2.0, 0.05) == pytest.approx(2.8016 * 0.2, rel=1e-4)
