"""CALVIN and SimplerEnv, on doubles of their simulators' surfaces, beside vla-eval's own classes.

The simulators are on no package index and want gigabytes of assets and a GPU: surfaces/ has the signatures that an
evaluation touches, as read in their public sources, over a toy. What is compared runs in an environment with vla-eval
0.8.0, by surface_checks.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command
from tests.toys import merged, outcomes
from vlaeval_hpc.benchmarks.calvin import CALVIN, _euler
from vlaeval_hpc.benchmarks.simpler import AGGREGATION, MATCHING, SimplerEnv, grid, variants
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.wire.specs import action_dim

CHECKS = Path(__file__).with_name("surface_checks.py")
CHAIN = [
    "pull the handle to open the drawer",
    "press the button to turn on the led light",
    "push the handle to close the drawer",
    "press the button to turn off the led light",
    "push the sliding door to the left side",
]


@pytest.fixture(scope="module")
def found(vla_eval_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    done = subprocess.run(
        [str(vla_eval_python), str(CHECKS), str(tmp_path_factory.mktemp("data") / "validation")],
        capture_output=True,
        text=True,
        timeout=300,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("run", "steps"), [("delta", 11), ("one by one", 11), ("seen", 11), ("relative", 27)])
def test_a_chain_of_five_instructions(found: Any, run: str, steps: int) -> None:
    ran = found["calvin"][run]
    chain = {f"chain_{i}": True for i in range(1, 6)}
    assert ran["record"] == {"metrics": {"success": True, "completed_subtasks": 5, **chain}, "steps": steps}
    # Each instruction is told, and the policy begins anew with it, although a chunk of the one before was not used up.
    assert ran["told"] == CHAIN and ran["starts"] == 5
    assert ran["egl"] is False


def test_the_first_missed_instruction_ends_a_chain(found: Any) -> None:
    ran = found["calvin"]["missed"]
    assert ran["record"]["metrics"] == {
        "success": False,
        "completed_subtasks": 1,
        **{f"chain_{i}": i == 1 for i in range(1, 6)},
    }
    assert ran["record"]["steps"] == 3 + 10
    assert ran["told"] == CHAIN[:2]


def test_calvin_renders_where_it_is_looked_at(found: Any) -> None:
    assert found["calvin"]["delta"]["rendered"] == 0
    assert found["calvin"]["seen"]["rendered"] == 5  # once an instruction, of 11 steps in chunks of 8
    assert found["calvin"]["shapes"] == {"rgb_static": [200, 200, 3, "uint8"], "rgb_gripper": [84, 84, 3, "uint8"]}
    state, kind = found["calvin"]["state"]
    assert kind == "float32" and state[6:] == pytest.approx([0.07999963, 1.0])
    assert found["calvin"]["EGL_VISIBLE_DEVICES"] == "3"
    assert found["calvin"]["alive"] == 0  # each episode's simulator is closed


def test_calvin_starts_and_actions_are_those_of_vla_eval(found: Any) -> None:
    assert found["calvin"]["starts"] is True
    assert found["calvin"]["fnv1"] == [0x811C9DC5, 0x050C5D7E, 0x31F0B262]  # of its authors' test vectors
    assert found["calvin"]["actions"] == [True] * 100
    assert found["calvin"]["relative"]["last"] == [0, 0, 1, 0, 0, 0, 1]


def test_euler_angles_of_rotation_vectors() -> None:
    half = np.pi / 2
    for vector, angles in (([0, 0, 0], [0, 0, 0]), ([0.3, 0, 0], [0.3, 0, 0]), ([0, 0, -2], [0, 0, -2])):
        assert _euler(np.array(vector, float)) == pytest.approx(angles)
    assert _euler(np.array([0, half, 0])) == pytest.approx([0, half, 0])


def test_a_run_of_chains(vlaeval: Command, tmp_path: Path) -> None:
    """Through a real server, which is told of each new instruction; the same on one shard and on two."""
    (tmp_path / "validation" / ".hydra").mkdir(parents=True)
    (tmp_path / "validation" / ".hydra" / "merged_config.yaml").touch()
    surfaces = CHECKS.with_name("surfaces")
    words = (
        "benchmark=calvin",
        "benchmark.environment.kind=host",
        f"+benchmark.environment.variables.PYTHONPATH={surfaces}:{surfaces / 'calvin_models'}",
        f"benchmark.params.dataset={tmp_path / 'validation'}",
        "benchmark.params.steps=9",
        "benchmark.episodes_per_task=40",
        "model=random",
        "model.params.chunk=4",
    )
    for name, shards in (("one", 1), ("two", 2)):
        done = vlaeval(*words, f"run={name}", f"cluster.shards={shards}", timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    result = merged(tmp_path, "one")
    assert outcomes(result) == outcomes(merged(tmp_path, "two"))
    assert result["mean_completed_subtasks"] == pytest.approx(sum(result[f"mean_chain_{i}"] for i in range(1, 6)))
    # Random commands open the drawer now and then.
    assert 0 < result["mean_completed_subtasks"] < 5


def test_simpler_episodes_are_those_of_vla_eval(found: Any) -> None:
    ran = found["simpler"]
    assert len(ran["same"]) == 48 and all(all(same) for same in ran["same"])
    assert {True, False} == set(ran["successes"])
    assert min(ran["lengths"]) < 12 and max(ran["lengths"]) == 20
    assert ran["open"] == 0
    assert found["poses"] < 1e-9


def test_variants_of_simpler() -> None:
    sizes = {"pick_coke_can_va": (33, 25), "move_near_va": (10, 60), "drawer_va": (42, 9), "put_in_drawer_va": (7, 27)}
    assert set(sizes) == set(AGGREGATION)
    for suite, (count, episodes) in sizes.items():
        benchmark = SimplerEnv(seed=0, suite=suite)
        found = variants(suite)
        assert len(found) == count
        assert len({repr(v) for v in found.values()}) == count
        assert {len(grid(v.starts)) for v in found.values()} == {episodes}
        assert benchmark.episodes_per_task == benchmark.max_episodes == episodes
    can = grid(variants("pick_coke_can_va")["standing_base"].starts)
    assert can[1]["obj_init_options"]["init_xy"].tolist() == pytest.approx([-0.35, 0.09])
    assert can[5]["obj_init_options"]["init_xy"].tolist() == pytest.approx([-0.2925, -0.02])
    assert variants("drawer_va")["close_middle_cabinet_3"] == (
        "CloseMiddleDrawerCustomInScene-v0",
        "frl_apartment_stage_simple",
        {
            "shader_dir": "rt",
            "robot": "google_robot_static",
            "sim_freq": 513,
            "control_freq": 3,
            "station_name": "mk_station3",
        },
        {"robot_x": (0.65, 0.85, 3), "robot_y": (-0.2, 0.2, 3), "x": (0.0, 0.0, 1), "y": (0.0, 0.0, 1)},
    )


def test_limits_and_specs() -> None:
    matching = SimplerEnv(seed=0, suite="google_robot", max_episode_steps=80)
    assert (matching.episodes_per_task, matching.max_episodes, matching.max_steps) == (24, None, 80)
    assert len(MATCHING["widowx"]) == 4
    assert action_dim(matching.action_spec) == action_dim(CALVIN(seed=0).action_spec) == 7
    assert (CALVIN(seed=0).max_steps, CALVIN(seed=0).max_episodes) == (1800, 1000)


def test_wrong_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown benchmark.params.suite 'widow': did you mean widowx"):
        SimplerEnv(seed=0, suite="widow")
    with pytest.raises(ConfigurationError, match=r"unknown benchmark.params.win 'late'.*accumulate, early_stop"):
        SimplerEnv(seed=0, win="late")
    with pytest.raises(ConfigurationError, match=r"unknown benchmark.params.control 'deltas': did you mean delta"):
        CALVIN(seed=0, control="deltas")
    with pytest.raises(ConfigurationError, match=r"unknown benchmark.params.render 'tpu'.*valid: cpu, gpu"):
        CALVIN(seed=0, render="tpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for benchmark in (CALVIN(seed=0), SimplerEnv(seed=0)):
        with pytest.raises(ConfigurationError, match=f"not installed for {sys.executable}: .* container=apptainer"):
            benchmark.tasks()
