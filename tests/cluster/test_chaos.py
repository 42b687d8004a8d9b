"""A short run of tests.chaos: whatever breaks, the merged episodes are those of an undisturbed run."""

from __future__ import annotations

import pytest

from tests.chaos.run import Chaos
from tests.cluster.conftest import Cluster


@pytest.fixture(scope="module")
def chaos(cluster: Cluster) -> Chaos:
    return Chaos(cluster)


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_doubled_or_changed(chaos: Chaos, seed: int) -> None:
    found = chaos.run(seed, faults=4)
    assert found.faults and not found.wrong, found
