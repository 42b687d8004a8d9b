"""What follows from a pair's demand and supply."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.launch.tuning import MOST_SIMULATORS, Demand, Measured, Supply, advise

TWO_CORES = [Demand(1, 50.0), Demand(2, 100.0)]
SLOW = [Supply(1, 10.0), Supply(2, 19.0), Supply(4, 36.0), Supply(8, 40.0)]


def test_a_policy_that_is_quick_gets_one_at_a_time() -> None:
    found = advise(Measured(TWO_CORES, [Supply(1, 1000.0), Supply(2, 1001.0)], 8, 0))
    assert (found.shards, found.simulators, found.batch, found.replicas) == (2, 1, 1, 1)
    assert 90 < found.steps <= 100


def test_a_shard_that_would_wait_gets_a_second_simulator() -> None:
    # 8 steps take 0.16 s, an answer 0.1 to 0.2 s.
    found = advise(Measured(TWO_CORES, [Supply(1, 5.0), Supply(2, 10.0), Supply(4, 20.0)], 8, 0))
    assert (found.shards, found.simulators, found.batch) == (2, 2, 4)


def test_more_shards_than_the_policy_answers_are_not_started() -> None:
    # 20 looks a second are one shard's; the policy gives 10.
    found = advise(Measured([Demand(1, 20.0), Demand(8, 160.0)], [Supply(1, 10.0), Supply(2, 10.1)], 1, 0))
    assert (found.shards, found.batch) == (1, 1)
    assert found.steps <= 10.1


def test_on_a_cluster_replicas_follow_the_shards() -> None:
    found = advise(Measured(TWO_CORES, SLOW, 1, 0), wanted=16)  # 800 looks a second
    assert found.shards == 16
    assert found.batch == 8
    assert found.replicas == math.ceil(800 / (0.9 * 40))


def test_the_last_core_counts_only_where_it_brings_something() -> None:
    found = advise(Measured([Demand(1, 50.0), Demand(2, 99.0), Demand(4, 101.0)], [Supply(1, 1e4)], 8, 0))
    assert found.shards == 2


rates = st.floats(0.1, 1e4)


@given(
    st.lists(rates, min_size=1, max_size=5),
    st.lists(rates, min_size=1, max_size=7),
    st.integers(1, 50),
    st.none() | st.integers(1, 500),
)
def test_settings_are_valid_and_promise_no_more_than_was_seen(
    steps: list[float], answers: list[float], chunk: int, wanted: int | None
) -> None:
    measured = Measured(
        [Demand(2**n, s) for n, s in enumerate(steps)], [Supply(2**n, a) for n, a in enumerate(answers)], chunk, 0
    )
    found = advise(measured, wanted)
    assert 1 <= found.shards <= (wanted or measured.demand[-1].shards)
    assert 1 <= found.simulators <= MOST_SIMULATORS
    assert found.replicas == 1 or wanted
    assert found.batch in [s.batch for s in measured.supply]
    assert found.steps <= found.replicas * max(answers) * chunk * 1.0001
    if wanted is None:
        assert found.steps <= max(steps) * 1.0001
