from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results.made import results, shard_content, write_shards
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.merge import merge_files, merge_shards

Content = dict[str, Any]
EPISODES = [(f"t{i % 2}", {"metrics": {"success": i % 3 == 0}, "steps": i, "episode_id": i // 2}) for i in range(8)]


def split(episodes: list[tuple[str, Content]], shards: int, **more: Any) -> list[tuple[str, Content]]:
    return [(f"s{i}.json", {**shard_content(i, shards, episodes[i::shards]), **more}) for i in range(shards)]


@given(results(graded=False), st.integers(1, 6), st.randoms(use_true_random=False))
def test_any_partition_in_any_order_gives_the_same_tasks(
    episodes: list[tuple[str, Content]], shards: int, chance: random.Random
) -> None:
    whole = merge_shards(split(episodes, 1))
    shuffled = episodes[:]
    chance.shuffle(shuffled)
    parts = split(shuffled, shards)
    chance.shuffle(parts)
    merged = merge_shards(parts)
    same = set(whole) - {"created_at", "merge_info", "shard_created_at"}
    assert {k: merged[k] for k in same} == {k: whole[k] for k in same}
    assert merged["merge_info"]["total_episodes"] == len(episodes)
    assert merged["problems"] == []


@given(results())
def test_merging_a_merge_again_changes_nothing(episodes: list[tuple[str, Content]]) -> None:
    once = merge_shards(split(episodes, 3))
    once["metric_keys"] = once.get("metric_keys", {})
    twice = merge_shards([("merged", {**once, "shard": {"id": 0, "total": 1}})])
    changing = {"created_at", "shard_created_at", "merge_info", "shard_harness_version"}
    assert {k: v for k, v in twice.items() if k not in changing} == {k: once[k] for k in once if k not in changing}


def test_missing_shards_and_parts_are_partial() -> None:
    merged = merge_shards(split(EPISODES, 4)[1:3])
    assert merged["partial"] is True
    assert merged["merge_info"] == {
        "num_shards": 4,
        "shards_found": [1, 2],
        "shards_missing": [0, 3],
        "total_episodes": 4,
    }
    assert merge_shards(split(EPISODES, 2, partial=True))["partial"] is True
    assert "partial" not in merge_shards(split(EPISODES, 2))


def test_an_episode_in_two_files_is_the_later_ones_and_named() -> None:
    shards = split(EPISODES, 2)
    again = {"metrics": {"success": True}, "steps": 99, "episode_id": 1}
    shards[1][1]["tasks"].append({"task": "t0", "episodes": [again, EPISODES[0][1]]})
    merged = merge_shards(shards)
    assert merged["tasks"][0]["episodes"][1] == again
    assert merged["merge_info"]["total_episodes"] == 8
    assert merged["problems"] == [
        "s1.json: 1 episode also in s0.json with another outcome: the later one is used (t0 1)",
        "s1.json: 1 episode also in s0.json with the same outcome: the later one is used (t0 0)",
    ]


def test_many_duplicates_are_one_line() -> None:
    shards = [("a", shard_content(0, 2, EPISODES)), ("b", shard_content(1, 2, EPISODES))]
    (problem,) = merge_shards(shards)["problems"]
    assert problem == "b: 8 episodes also in a with the same outcome: the later one is used (t0 0, t0 1, t0 2, ...)"


def test_differing_circumstances_are_named() -> None:
    shards = split(EPISODES, 3)
    shards[2][1]["config"] = {"params": {"seed": 8}}
    shards[1][1]["metric_keys"] = {"success": "sum"}
    merged = merge_shards(shards)
    assert merged["problems"] == [
        "s1.json: 'metric_keys' differs from s0.json, whose is used",
        "s2.json: 'config' differs from s0.json, whose is used",
    ]
    assert merged["metric_keys"] == {"success": "mean"} and merged["seed"] == 7


def test_episodes_without_success_are_named() -> None:
    merged = merge_shards(split([*EPISODES, ("t0", {"metrics": {}, "episode_id": 77})], 1))
    assert merged["problems"] == ["1 of 9 episodes have no 'success' and are in no rate"]


def test_a_benchmark_without_success() -> None:
    episodes = [("t", {"metrics": {"avg_len": i % 6}, "steps": 3, "episode_id": i}) for i in range(12)]
    content = shard_content(0, 1, episodes, {"avg_len": "mean"})
    merged = merge_shards([("a", content)])
    assert merged["mean_avg_len"] == 2.5 and "mean_success" not in merged and merged["problems"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"benchmark": "Other"}, "s2.json: benchmark 'Other', others have 'Made'"),
        ({"shard": {"id": 2, "total": 7}}, "s2.json: number of shards 7, others have 3"),
        ({"run": "abc"}, "s2.json: run 'abc', others have None"),
    ],
)
def test_foreign_files_are_named_and_refused(change: Content, words: str) -> None:
    shards = split(EPISODES, 3)
    shards[2][1].update(change)
    for order in (shards, shards[::-1]):
        with pytest.raises(ConfigurationError) as caught:
            merge_shards(order)
        assert str(caught.value) == f"cannot merge: {words}"


def test_a_shard_that_comes_twice_is_named_and_refused() -> None:
    shards = split(EPISODES, 3)
    shards[2][1]["shard"] = {"id": 0, "total": 3}
    with pytest.raises(ConfigurationError, match=r"shard 0 comes 2 times: s0.json, s2.json"):
        merge_shards(shards)


GOOD = shard_content(0, 3, EPISODES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(GOOD)[:-50], "not readable as JSON"),
        ("", "not readable as JSON"),
        ("\udce4".encode("utf-8", "surrogateescape"), "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ("[]", "not a shard result: no JSON object"),
        (json.dumps({**GOOD, "shard": None}), "no 'shard'"),
        (json.dumps({**GOOD, "shard": {"id": 3, "total": 3}}), "shard 3 of 3"),
        (json.dumps({**GOOD, "shard": {"id": "0", "total": 3}}), "shard '0' of 3"),
        (json.dumps({**GOOD, "benchmark": 3}), "no 'benchmark'"),
        (json.dumps({**GOOD, "tasks": {}}), "no 'tasks'"),
        (json.dumps({**GOOD, "tasks": [{"episodes": []}]}), "a task without a name"),
        (json.dumps({**GOOD, "tasks": [{"task": "t", "episodes": [{"metrics": {}}]}]}), "task t: episodes without"),
        (json.dumps({**GOOD, "tasks": [{"task": "t", "episodes": [3]}]}), "task t: episodes without"),
        (json.dumps({**GOOD, "metric_keys": {"success": []}}), "'metric_keys' does not map"),
        (json.dumps({**GOOD, "config": []}), "'config' is no object"),
        (json.dumps({**GOOD, "schema": 99}), "schema 99"),
    ],
)
def test_files_that_cannot_be_used_are_named_and_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    paths = write_shards(tmp_path, [shard_content(i, 3, EPISODES[i::3]) for i in range(2)])
    bad = tmp_path / "bad.json"
    bad.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        merge_files([*paths, bad])
    assert str(bad) in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value) and str(paths[0]) not in str(caught.value)


def test_many_bad_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"f4: no such file; and 15 more$"):
        merge_files([tmp_path / f"f{i}" for i in range(20)])


def test_nothing_to_merge() -> None:
    with pytest.raises(ConfigurationError, match="no shard files"):
        merge_files([])
