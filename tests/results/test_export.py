from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from hypothesis import given

from tests.results.made import results, shard_content
from vlaeval_hpc.results.export import to_json, write_csv_file, write_json_file
from vlaeval_hpc.results.merge import merge_shards

Content = dict[str, Any]


def merged_of(episodes: list[tuple[str, Content]]) -> Content:
    return merge_shards([("a", shard_content(0, 1, episodes))])


@given(results())
def test_json_holds_the_merge_and_nothing_else(episodes: list[tuple[str, Content]]) -> None:
    merged = merged_of(episodes)
    assert json.loads(to_json(merged)) == merged


def test_an_episode_a_line(tmp_path: Path) -> None:
    tricky = 'a }, {"episode_id": 3'
    merged = merged_of([(tricky, {"episode_id": i, "metrics": {"success": True}, "note": tricky}) for i in range(3)])
    write_json_file(tmp_path / "m.json", merged)
    text = (tmp_path / "m.json").read_text()
    assert json.loads(text) == merged
    assert sum(line.startswith('   {"episode_id": ') for line in text.splitlines()) == 3


def test_not_a_number_is_null() -> None:
    episodes = [
        ("t", {"episode_id": i, "metrics": {"success": False, "d": v}}) for i, v in enumerate([float("nan"), 1.0])
    ]
    content = {**shard_content(0, 1, episodes), "metric_keys": {"success": "mean", "d": "max"}}
    text = to_json(merge_shards([("a", content)]))
    found = json.loads(text, parse_constant=lambda name: 1 / 0)
    assert found["tasks"][0]["episodes"][0]["metrics"]["d"] is None


def test_csv_has_a_row_an_episode(tmp_path: Path) -> None:
    merged = merged_of(
        [
            ("b", {"episode_id": 1, "metrics": {"success": False}, "failure_reason": "timeout"}),
            ('a,"x"', {"episode_id": 0, "seed": 7, "metrics": {"zeal": float("inf"), "success": True}, "steps": 12}),
            ("b", {"episode_id": 0, "metrics": {"success": True, "area": 0.5}, "steps": 3, "elapsed_sec": 1.25}),
        ]
    )
    write_csv_file(tmp_path / "m.csv", merged)
    with (tmp_path / "m.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["task", "episode_id", "seed", "success", "area", "zeal", "steps", "elapsed_sec", "failure_reason"],
        ['a,"x"', "0", "7", "1", "", "", "12", "", ""],
        ["b", "0", "", "1", "0.5", "", "3", "1.25", ""],
        ["b", "1", "", "0", "", "", "", "", "timeout"],
    ]
