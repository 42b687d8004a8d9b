from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.results.statistics.multiplicity import holm, letters, optimism


def test_holm_gives_what_others_give() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # statsmodels 0.15.0, multipletests(..., method="holm")
    ps = [0.001, 0.02, 0.04, 0.012, 0.3, 0.05]
    assert holm(ps) == pytest.approx([0.006, 0.08, 0.12, 0.06, 0.3, 0.12])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_rejects_as_its_steps_do(ps: list[float]) -> None:
    adjusted = holm(ps)
    rejected = set()
    for rank, (p, index) in enumerate(sorted((p, i) for i, p in enumerate(ps))):
        if p * (len(ps) - rank) > 0.05:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(adjusted) if p <= 0.05} == rejected
    assert all(p <= a <= 1 for p, a in zip(ps, adjusted, strict=True))


def test_letters() -> None:
    assert letters("abcd", []) == dict.fromkeys("abcd", "a")
    assert letters("abcd", [("a", "c"), ("d", "a"), ("b", "d")]) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}


@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(pairs_of(n)) if n > 1 else st.nothing()))
    )
)
def test_letters_are_shared_exactly_where_nothing_differs(case: tuple[int, set[tuple[str, str]]]) -> None:
    n, different = case
    found = letters([str(i) for i in range(n)], different)
    for one, other in pairs_of(n):
        shared = set(found[one]) & set(found[other])
        assert bool(shared) == ((one, other) not in different)
    assert all(found.values())


def pairs_of(n: int) -> list[tuple[str, str]]:
    return list(itertools.combinations([str(i) for i in range(n)], 2))


def test_many_letters_have_other_names() -> None:
    names = [str(i) for i in range(30)]
    found = letters(names, set(itertools.combinations(names, 2)))
    assert found["25"] == "z" and found["26"] == "a2" and len(set(found.values())) == 30


@pytest.mark.parametrize(("k", "published"), [(2, 0.5642), (3, 0.8463), (5, 1.1630), (10, 1.5388)])
def test_optimism_is_the_expected_highest_of_normals(k: int, published: float) -> None:
    """Harter 1961, table 1, times the standard error of what differs between policies."""
    chance = random.Random(k)
    easy = [chance.gauss(0, 5) for _ in range(4000)]  # how easy an episode is moves no policy above the others
    columns = [[e + chance.gauss(0, 1) for e in easy] for _ in range(k)]
    assert optimism(columns) == pytest.approx(published / 4000**0.5, rel=0.05)


def test_one_policy_or_equal_ones_are_not_too_high() -> None:
    assert optimism([[1.0, 0.0, 1.0]]) == 0
    assert optimism([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]) == 0
