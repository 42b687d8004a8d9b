from __future__ import annotations

import pytest

from vlaeval_hpc.launch.jobs import Job, Submission
from vlaeval_hpc.launch.rounds import _cancelled, _rounds_by_merges

JOBS = Submission([Job("server", "5", [[0]]), Job("shards", "6", [[0], [1]]), Job("merge", "7", [[]])])


@pytest.mark.parametrize(
    ("server", "first", "second", "expected"),
    [
        (None, "CANCELLED", "COMPLETED", True),
        (None, "CANCELLED", "CANCELLED", True),
        ("CANCELLED", "FAILED", "FAILED", True),
        ("FAILED", "FAILED", "FAILED", False),
        (None, "CANCELLED", "NODE_FAIL", False),  # what else befell them was nobody's wish
        (None, "COMPLETED", "COMPLETED", False),
        (None, "OUT_OF_MEMORY", "TIMEOUT", False),
    ],
)
def test_what_somebody_wanted_to_end_is_not_started_again(
    server: str | None, first: str, second: str, expected: bool
) -> None:
    ended = {"6_0": first, "6_1": second, **({"5": server} if server else {})}
    assert _cancelled(JOBS, ended) is expected


def test_a_person_who_resumes_begins_the_count_anew() -> None:
    by_merge = Submission([], by_merge=True)
    assert _rounds_by_merges([Submission([]), by_merge, by_merge]) == 2
    assert _rounds_by_merges([by_merge, Submission([])]) == 0
