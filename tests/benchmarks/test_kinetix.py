"""Kinetix: episodes bit for bit those of vla-eval's adapter, compiled once, observed only where looked at.

It runs in an environment with vla-eval 0.8.0, by kinetix_checks.py; what JAX compiles is kept in the user's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import benchmark_environment, with_packages
from vlaeval_hpc.benchmarks.kinetix import SUITES, Kinetix
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.cache import cache_folder
from vlaeval_hpc.launch.environment import interpreter

CHECKS = Path(__file__).with_name("kinetix_checks.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    environment = with_packages(benchmark_environment("kinetix"), "vla-eval==0.8.0")
    python = interpreter(environment, "kinetix-vla-eval", print)
    done = subprocess.run(
        [str(python), str(CHECKS), str(tmp_path_factory.mktemp("worlds") / "worlds")],
        capture_output=True,
        text=True,
        timeout=900,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache_folder() / "compiled" / "tests-jax"),
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_episodes_are_those_of_vla_eval(found: Any) -> None:
    looks, over, success = found["theirs"]
    ours, ours_over, ours_success = found["noisy"]
    assert len(looks) > 10
    assert ours[: len(looks)] == looks
    assert ours_over == over
    # The goal was not reached: vla-eval counts the levels' reward for every step towards it.
    assert (ours_success, success) == (False, True)


def test_episodes_do_not_depend_on_what_ran_before(found: Any) -> None:
    assert found["noisy"] == found["again"]
    assert found["noisy"] != found["another episode"]
    assert found["noisy"][0][0] == found["plain"][0][0]  # the noise is on actions only
    assert found["noisy"][0][1] != found["plain"][0][1]
    assert found["compiled"] == 1


def test_what_is_looked_at_late_is_the_same(found: Any) -> None:
    looks, over, success = found["lazy"]
    assert looks == found["plain"][0][::8]
    assert (over, success) == tuple(found["plain"][1:])


def test_camera_and_words(found: Any) -> None:
    assert found["frame"] == [125, 125, 3, "uint8", True]
    assert found["keys"] == ["images", "task_description"] and found["words"] == "h4_cartpole"
    assert found["states"] == [SUITES[suite] for suite in ("s", "m", "l")]


def test_the_goal_wins(found: Any) -> None:
    assert found["ends"] == [[True, {"success": False}, True], [True, {"success": True}, True]]


def test_levels_of_real_time_chunking(found: Any) -> None:
    same_names, same_levels, added = found["worlds"]
    assert same_names and same_levels
    assert added == ["Catapult", "Cartpole Thrust", "Catcher", "Trampoline"]
    assert found["rtc12"].startswith("Kinetix has no level for Catapult, Cartpole Thrust, Catcher, Trampoline: ")
    assert "benchmark.params.worlds=FOLDER" in found["rtc12"]


def test_wrong_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"suite 'xl'.*valid: l, m, rtc12, s"):
        Kinetix(seed=0, suite="xl")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=f"not installed for {sys.executable}: install kinetix-env"):
        Kinetix(seed=0).tasks()
