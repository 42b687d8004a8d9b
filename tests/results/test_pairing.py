from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from vlaeval_hpc.results.statistics import pairing
from vlaeval_hpc.results.statistics.intervals import Z, wilson
from vlaeval_hpc.results.statistics.pairing import mcnemar, shifted, sign_flip, tango, tango_z

DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int]:
    """gained, lost, n."""
    n = draw(st.integers(1, 3000))
    gained = draw(st.integers(0, n))
    return gained, draw(st.integers(0, n - gained)), n


@pytest.mark.parametrize(
    ("gained", "lost", "published"),
    [
        (1, 7, 0.0703),  # Fagerland, Lydersen and Laake 2013, the two examples
        (6, 16, 0.0525),
        (5, 0, 0.0625),
        (0, 0, 1.0),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_gives_published_values(gained: int, lost: int, published: float) -> None:
    assert round(mcnemar(gained, lost), 4) == published == round(mcnemar(lost, gained), 4)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low", "high"),
    [  # Fagerland, Lydersen and Laake 2017, Statistical Analysis of Contingency Tables, chapter 8
        (6, 16, 161, -0.1240, -0.0054),
        (1, 7, 21, -0.517, -0.026),
    ],
)
def test_tango_gives_published_values(gained: int, lost: int, n: int, low: float, high: float) -> None:
    digits = len(f"{low:g}") - 3 if n == 21 else 4
    found = tango(gained, lost, n)
    assert (round(found.low, digits), round(found.high, digits)) == (low, high)


@given(tables(), st.floats(-0.95, 0.95))
def test_tango_z_has_the_variance_of_the_most_likely_table(table: tuple[int, int, int], margin: float) -> None:
    """The restricted maximum of the likelihood, by search instead of the formula."""
    gained, lost, n = table

    def unlikely(losing: float) -> float:
        cells = ((gained, losing + margin), (lost, losing), (n - gained - lost, 1 - 2 * losing - margin))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells)

    bounds = (max(0.0, -margin), (1 - margin) / 2)
    losing = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = n * (2 * losing + margin * (1 - margin))
    if variance > 1e-3 * n:
        expected = (gained - lost - n * margin) / math.sqrt(variance)
        assert tango_z(gained, lost, n, margin) == pytest.approx(expected, rel=2e-3, abs=2e-3)


@given(tables())
def test_tango_holds_the_difference_and_is_symmetric(table: tuple[int, int, int]) -> None:
    gained, lost, n = table
    found, mirrored = tango(gained, lost, n), tango(lost, gained, n)
    assert -1 <= found.low <= (gained - lost) / n <= found.high <= 1
    assert mirrored.low == pytest.approx(-found.high, abs=1e-9)
    for bound, z in ((found.low, Z), (found.high, -Z)):
        if abs(bound) < 1 - 1e-6:
            assert tango_z(gained, lost, n, bound) == pytest.approx(z, abs=1e-3)


def test_tango_without_flips_is_as_wide_as_wilson() -> None:
    assert tango(0, 0, 50).high == pytest.approx(wilson(0, 50).high)


@given(tables(), st.floats(0.001, 0.9), st.floats(0.001, 0.9))
def test_asking_for_more_is_never_easier(table: tuple[int, int, int], one: float, other: float) -> None:
    gained, lost, n = table
    low, high = sorted((one, other))
    if tango_z(gained, lost, n, high) > 0:
        assert shifted(gained, lost, n, 0) <= shifted(gained, lost, n, low) <= shifted(gained, lost, n, high) + 1e-12


def test_shifted() -> None:
    assert shifted(6, 16, 161, 0) == mcnemar(6, 16)
    bound = tango(6, 16, 161).low
    assert shifted(6, 16, 161, bound - 1e-9) <= 0.0500001 and shifted(6, 16, 161, bound + 1e-3) > 0.05
    assert shifted(20, 20, 500, -0.05) < 0.001 < 0.5 < shifted(20, 20, 500, 0)


def test_sign_flip_is_fishers_on_darwins_plants() -> None:
    assert sign_flip(DARWIN) == 1726 / 2**15  # Fisher 1935, section 21: 863 of 32,768 in each tail


@given(st.lists(st.integers(-20, 20), max_size=9))
def test_sign_flip_counts_all_assignments(differences: list[int]) -> None:
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in signs_of(len(differences))]
    expected = sum(abs(s) >= abs(sum(differences)) for s in sums) / len(sums)
    assert sign_flip(differences) == pytest.approx(expected)
    assert sign_flip([d / 10 for d in differences]) == pytest.approx(expected)


def signs_of(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


def test_random_signs_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = sign_flip(DARWIN)
    monkeypatch.setattr(pairing, "EXACT", 3)
    monkeypatch.setattr(pairing, "BLOCK", 1000)
    assert sign_flip(DARWIN) == pytest.approx(exact, abs=0.007)  # three standard errors
    assert sign_flip(DARWIN) == sign_flip(DARWIN)
    assert sign_flip([1.0] * 40) == 1 / (pairing.DRAWS + 1)


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(0, 400))
def test_sign_flip_of_successes_is_mcnemar(gained: int, lost: int) -> None:
    p = mcnemar(gained, lost)
    assert sign_flip([1.0] * gained + [-1.0] * lost) == pytest.approx(p, abs=4 * math.sqrt(p / pairing.DRAWS) + 1e-3)
