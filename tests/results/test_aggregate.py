from __future__ import annotations

from typing import Any

import pytest

from vlaeval_hpc.results.aggregate import task_summary, total_summary, trust


def episode(number: int, failure: str | None = None, steps: int = 10, **metrics: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"episode_id": number, "metrics": metrics, "steps": steps}
    return {**found, "failure_reason": failure} if failure else found


def test_every_episode_counts_and_errors_stand_apart() -> None:
    episodes = [episode(i, success=i > 0) for i in range(4)] + [episode(4, "server_timeout", success=False, steps=0)]
    found = task_summary("t", episodes, {"success": "mean"})
    assert found["mean_success"] == 0.6 and found["mean_success_n"] == 5
    assert found["mean_success_completed"] == 0.75 and found["mean_success_completed_n"] == 4
    assert found["mean_success_interval"] == pytest.approx([0.2307, 0.8824], abs=1e-4)
    assert found["mean_success_completed_interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    assert (found["num_episodes"], found["num_errors"], found["num_completed"]) == (5, 1, 4)
    assert found["failure_reasons"] == {"server_timeout": 1}
    assert found["avg_steps"] == 8.0


def test_the_total_has_all_but_the_episodes() -> None:
    found = total_summary([episode(0, success=True)], {"success": "mean"})
    assert not {"task", "episodes"} & set(found)
    assert found["mean_success"] == 1.0 and found["num_episodes"] == 1


def test_graded_means_have_a_students_interval_and_their_own_n() -> None:
    episodes = [episode(i, success=False, avg_len=v) for i, v in enumerate([3, 4, 5, 4])]
    found = trust([*episodes, episode(9, "timeout", success=False)], {"success": "mean", "avg_len": "mean"})
    assert found["mean_avg_len"] == 4.0 and found["mean_avg_len_n"] == 4
    low, high = found["mean_avg_len_interval"]
    assert 2.69 < low < 2.71 and 5.29 < high < 5.31


def test_a_graded_metric_that_is_0_or_1_so_far_is_no_rate() -> None:
    found = trust([episode(i, avg_len=v) for i, v in enumerate([0, 1, 1])], {"avg_len": "mean"})
    assert found["mean_avg_len_interval"][1] > 1
    rate = trust([episode(i, grasped=v) for i, v in enumerate([False, True, True])], {"grasped": "mean"})
    assert rate["mean_grasped_interval"][1] < 1


def test_success_may_be_written_as_a_number() -> None:
    as_bool = trust([episode(0, success=True), episode(1, success=False)], {"success": "mean"})
    as_float = trust([episode(0, success=1.0), episode(1, success=0.0)], {"success": "mean"})
    assert as_bool == as_float


def test_what_cannot_be_told_is_absent() -> None:
    found = trust([episode(0, "timeout", success=False)], {"success": "mean", "avg_len": "mean", "length": "max"})
    assert "mean_success_completed" not in found and "mean_avg_len" not in found and "max_length_n" not in found
    assert trust([], {"success": "mean"}) == {"num_errors": 0, "num_completed": 0, "failure_reasons": {}}
