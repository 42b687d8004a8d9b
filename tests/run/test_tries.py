"""What stands of several records of an episode, and whether it is tried again: whoever looks, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.run.result import ATTEMPTS, is_final, is_open, settle

REASONS = st.sampled_from([None, "policy_error", "simulator_crash", "server_timeout"])


def record(number: int, reason: str | None) -> dict[str, object]:
    return {"task": "t", "episode_id": 0, "number": number, **({"failure_reason": reason} if reason else {})}


@given(st.lists(REASONS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_records_decides_nothing_that_counts(reasons: list[str | None], chance: object) -> None:
    records = [record(n, r) for n, r in enumerate(reasons)]
    found = settle(records)["t", 0]
    assert found["attempts"] == len(records)
    assert ("failure_reason" not in found) == (None in reasons)
    assert is_final(found) == any(r in (None, "policy_error") for r in reasons)
    # As run.leases counts: something final ends it, else ATTEMPTS failures do.
    assert is_open(found) == (not is_final(found) and len(records) < ATTEMPTS)
    chance.shuffle(records)  # type: ignore[attr-defined]
    again = settle(records)["t", 0]
    assert is_open(again) == is_open(found) and ("failure_reason" in again) == ("failure_reason" in found)
