"""Meta-World: its task sets, its camera, and episodes that depend on (task, episode, seed) alone.

The simulator runs in its own environment, by metaworld_checks.py, two processes at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.benchmarks.checks import Ask, checks
from vlaeval_hpc.benchmarks.metaworld import INSTRUCTIONS, SUITES, MetaWorld
from vlaeval_hpc.benchmarks.start import start_seed
from vlaeval_hpc.errors import ConfigurationError

CHECKS = Path(__file__).with_name("metaworld_checks.py")


@pytest.fixture(scope="module")
def ask(metaworld_python: Path) -> Iterator[Ask]:
    """Start a check; what is given back waits for its answer."""
    with checks(CHECKS, {}) as anywhere:
        yield partial(anywhere, metaworld_python)


def test_a_used_simulator_is_as_good_as_new_in_every_task(ask: Ask) -> None:
    halves = [ask("again", str(part)) for part in range(2)]
    assert [half() for half in halves] == [[], []]


def test_sets_are_those_of_meta_world(ask: Ask) -> None:
    found = ask("sets")()
    for ours, theirs in (found["mt10"], found["mt50"]):
        assert ours == theirs
    assert found["tasks"] == [{"name": name, "instruction": text} for name, text in INSTRUCTIONS.items()]
    assert len(set(INSTRUCTIONS.values())) == 50


def test_camera(ask: Ask) -> None:
    found = ask("frames", MUJOCO_GL="osmesa")()
    assert found["same_start"]
    assert found["same_frames"] == found["same_states"] == [True] * 4
    assert found["distinct"] > 20
    assert found["blind"]
    assert found["shape"] == [256, 256, 3, "uint8", True]
    red, green, blue = found["goal"]
    assert green > 2 * red and green > 2 * blue  # push's goal is a green ball
    assert found["above_is_up"]


def test_no_gl_where_no_camera_is_selected(ask: Ask) -> None:
    assert ask("without_gl")() == {"MUJOCO_GL": "disabled", "mapped": []}


def test_actions_in_float32_and_float64_are_the_same(ask: Ask) -> None:
    narrow, wide = ask("dtypes")()
    assert narrow == wide


def test_gl_that_cannot_be_loaded_is_named(ask: Ask) -> None:
    assert "MUJOCO_GL=moon" in ask("gl_error")()


def test_bc_learns_and_listens(ask: Ask) -> None:
    found = ask("bc")()
    assert found["told"]["0"] == 0
    assert 4 <= found["told"]["100"] <= 16
    assert found["told"]["10000"] >= 18
    assert found["push told to reach"] == 0


def test_start_seeds_differ() -> None:
    seeds = {start_seed(s, name, e) for s in (-1, 0, 1, 11) for name in SUITES["mt50"] for e in (0, 1, 10, 110)}
    assert len(seeds) == 4 * 50 * 4
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"suite 'mt5'.*valid: bc5, mt10, mt50"):
        MetaWorld(seed=0, suite="mt5")
    with pytest.raises(ConfigurationError, match="gives no 'wrist': valid: corner2, state, language"):
        MetaWorld(seed=0).select(["wrist"])
    with pytest.raises(ConfigurationError, match=r"task 'reach-v2': did you mean reach-v3\?"):
        MetaWorld(seed=0).reset({"name": "reach-v2", "instruction": "reach"}, 0)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=f"not installed for {sys.executable}: install metaworld"):
        MetaWorld(seed=0).tasks()
