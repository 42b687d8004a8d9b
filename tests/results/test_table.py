from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tests.results.made import shard_content
from vlaeval_hpc.results.merge import merge_shards
from vlaeval_hpc.results.table import print_merged

Content = dict[str, Any]
TASKS = [("reach", 0), ("reach", 1), ("[push]", 0), ("[push]", 1)]


def merged_of(failed: int, total: int = 1, metric_keys: dict[str, str] | None = None) -> Content:
    episodes = []
    for n, (task, number) in enumerate(TASKS):
        episode: Content = {"episode_id": number, "metrics": {"success": n > 0}, "steps": 10 * n}
        if n < failed:
            episode = {**episode, "metrics": {"success": False}, "failure_reason": "server_timeout"}
        episodes.append((task, episode))
    return merge_shards([("a", shard_content(0, total, episodes, metric_keys or {"success": "mean"}))])


def printed(merged: Content, terminal: bool = False) -> str:
    stream = io.StringIO()
    print_merged(Console(file=stream, force_terminal=terminal, width=120), merged)
    return stream.getvalue()


def test_a_log_gets_plain_aligned_lines() -> None:
    assert printed(merged_of(failed=0)).splitlines() == [
        "task    episodes         success [95 %]  mean steps  errors",
        "[push]         2  100.0 % [34.2, 100.0]        25.0       0",
        "reach          2     50.0 % [9.5, 90.5]         5.0       0",
        "total          4    75.0 % [30.1, 95.4]        15.0       0",
    ]


def test_errors_bring_the_rate_without_them_and_its_n() -> None:
    text = printed(merged_of(failed=1))
    assert "completed only [95 %]" in text
    assert "75.0 % [30.1, 95.4]  100.0 % [43.9, 100.0] n=3" in text
    assert "errors: server_timeout 1; they count as failures" in text


def test_partial_and_problems_are_said() -> None:
    merged = merged_of(failed=0, total=3)
    merged["problems"] = [f"p{i}" for i in range(30)]
    lines = printed(merged).splitlines()
    assert "PARTIAL: shards 1, 2 of 3 missing" in lines
    assert "problem: p9" in lines and "problem: p10" not in lines
    assert lines[-1].startswith("and 20 more problems")


def test_partial_run_counts_episodes() -> None:
    merged = merged_of(failed=0)
    coverage = {"planned": 9, "finished": 4, "missing": 5, "retriable": 2, "open_shards": [3], "tasks_missing": []}
    text = printed({**merged, "partial": True, "coverage": coverage})
    assert "PARTIAL: 4 of 9 planned episodes, 5 missing in shard 3 of 1" in text
    assert "2 failed episodes are tried again" in text


def test_a_terminal_gets_a_table_with_names_as_they_are() -> None:
    text = printed(merged_of(failed=0), terminal=True)
    assert "[push]" in text and "━" in text and "75.0 % [30.1, 95.4]" in text


def test_other_metrics_have_columns() -> None:
    episodes = [("t", {"episode_id": i, "metrics": {"avg_len": i}, "steps": 1}) for i in range(4)]
    merged = merge_shards([("a", shard_content(0, 1, episodes, {"avg_len": "mean", "longest": "max"}))])
    text = printed(merged)
    assert "mean avg_len [95 %]" in text and "1.5 [-0.55" in text and "max longest" in text and "success" not in text
