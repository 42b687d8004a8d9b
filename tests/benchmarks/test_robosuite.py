"""robosuite: what is observed is what robosuite gives, rendered only where looked at; a lifted cube is a win.

The simulator runs in its own environment, by robosuite_checks.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.checks import OSMESA, Answer, checks
from tests.conftest import benchmark_environment
from vlaeval_hpc.benchmarks.robosuite import SUITES, Robosuite
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.environment import interpreter
from vlaeval_hpc.wire.specs import action_dim

CHECKS = Path(__file__).with_name("robosuite_checks.py")


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, Answer]]:
    """Everything asked there; each waits for its answer."""
    python = interpreter(benchmark_environment("robosuite"), "robosuite", print)
    with checks(CHECKS, OSMESA) as ask:
        yield {verb: ask(python, verb) for verb in ("frames", "lift")}


def test_observations_are_those_of_robosuite(answers: dict[str, Answer]) -> None:
    found = answers["frames"]()
    assert found["stack"] == found["their stack"]
    assert found["two arms"] == found["their two arms"][::4]
    assert len({look["agentview"] for look in found["stack"]}) == 9
    assert found["frame"] == [84, 84, 3, "uint8", True, True]


def test_episodes_do_not_depend_on_what_ran_before_or_is_looked_at(answers: dict[str, Answer]) -> None:
    found = answers["frames"]()
    assert found["again"] == found["stack"][::4]
    assert found["other"][0] != found["stack"][0] != found["lift"][0]
    assert [look["state"] for look in found["blind"]] == [look["state"] for look in found["stack"]]
    assert [look["wrist"] for look in found["one camera"]] == [look["wrist"] for look in found["stack"][::8]]
    assert "agentview" not in found["one camera"][0]
    assert found["drawn"] == 2  # two cameras, once in four steps
    assert found["unlooked"] == "observe after a step without look"


def test_a_lifted_cube_wins(answers: dict[str, Answer]) -> None:
    found = answers["lift"]()
    for steps, done, times, result, again, same in found["episodes"]:
        assert steps > 60 and done and times == 1
        assert result == {"success": True}
        assert again and same
    assert found["limit"] == [False, True, True] and found["lost"] == {"success": False}


def test_specs_and_limits() -> None:
    one, two = Robosuite(seed=0), Robosuite(seed=0, suite="two_arm")
    assert (action_dim(one.action_spec), action_dim(two.action_spec)) == (7, 14)
    assert list(one.observation_spec) == ["agentview", "wrist", "state", "language"]
    assert list(two.observation_spec) == ["agentview", "wrist", "wrist2", "state", "language"]
    assert (one.observation_spec["state"].dims, two.observation_spec["state"].dims) == (9, 18)
    assert one.max_steps == two.max_steps == 700
    words = [known.words for suite in SUITES.values() for known in suite.values()]
    assert len(set(words)) == len(words)


def test_wrong_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="suite 'one': did you mean one_arm"):
        Robosuite(seed=0, suite="one")
    with pytest.raises(ConfigurationError, match="gives no 'wrist2': valid: agentview, wrist, state, language"):
        Robosuite(seed=0).select(["wrist2"])
    with pytest.raises(ConfigurationError, match="unknown task of one_arm 'Lifted': did you mean Lift"):
        Robosuite(seed=0).reset({"name": "Lifted", "instruction": ""}, 0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=f"not installed for {sys.executable}: install robosuite==1.5.2"):
        Robosuite(seed=0).tasks()
