from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.machine import in_turn, parse_set, render_variables, share, usable_cpus, usable_gpus


@pytest.mark.parametrize(("text", "numbers"), [("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("2, 1-2", [2, 1])])
def test_sets_are_read_as_slurm_and_taskset_write_them(text: str, numbers: list[int]) -> None:
    assert parse_set("cluster.cpus", text) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1"])
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="cluster.cpus"):
        parse_set("cluster.cpus", text)


@given(st.integers(1, 64), st.integers(1, 100))
def test_cpus_are_shared_evenly(count: int, shards: int) -> None:
    cpus = list(range(count))
    parts = [share(cpus, i, shards) for i in range(shards)]
    assert {c for part in parts for c in part} == set(cpus)
    assert all(parts) and max(map(len, parts)) - min(map(len, parts)) <= 1
    if shards <= count:
        assert sorted(c for part in parts for c in part) == cpus


def test_only_cpus_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3})
    assert usable_cpus(None) == [2, 3]
    assert usable_cpus("3") == [3]
    with pytest.raises(ConfigurationError, match="CPU 0 is not to be had"):
        usable_cpus("0-3")


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    yield monkeypatch


def test_gpus_are_taken_in_turn(visible: pytest.MonkeyPatch) -> None:
    assert usable_gpus(None) == ["GPU-a", "GPU-b"]
    assert usable_gpus("1,0") == ["1", "0"]
    assert [render_variables(in_turn(["0", "1"], i))["MUJOCO_EGL_DEVICE_ID"] for i in range(3)] == ["0", "1", "0"]
    assert "MUJOCO_EGL_DEVICE_ID" not in render_variables(["GPU-a"])
    assert render_variables([])["MUJOCO_GL"] == "osmesa"
