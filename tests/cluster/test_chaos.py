"""A short run of tests.chaos: whatever breaks, the merged episodes are those of an undisturbed run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.chaos.run import Chaos
from tests.cluster.conftest import Cluster

SEEDS = (1, 2)


def test_nothing_is_lost_doubled_or_changed(cluster: Cluster) -> None:
    chaos = Chaos(cluster, pace=0.2)
    with ThreadPoolExecutor() as pool:  # at the same time: they mostly wait
        found = list(pool.map(lambda seed: chaos.run(seed, faults=3), SEEDS))
    assert all(f.faults and not f.wrong for f in found), found
