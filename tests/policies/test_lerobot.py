"""LeRobot's checkpoints, in its own library: the same actions as its own evaluation loop's, in any batch."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.policies.conftest import LEROBOT, TORCH_CPU, torch_cpu
from tests.toys import TOY, merged, outcomes
from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.lerobot import LeRobot
from vlaeval_hpc.wire.specs import misfits

CHECKS = Path(__file__).with_name("lerobot_checks.py")
CAMERAS: dict[str, str | None] = {"observation.images.image": "agentview", "observation.images.image2": "wrist"}
CONFIG: dict[str, Any] = {
    "type": "smolvla",
    "n_obs_steps": 1,
    "input_features": {
        "observation.images.image": {"type": "VISUAL", "shape": [3, 256, 256]},
        "observation.images.image2": {"type": "VISUAL", "shape": [3, 256, 256]},
        "observation.images.empty_camera_0": {"type": "VISUAL", "shape": [3, 480, 640]},
        "observation.state": {"type": "STATE", "shape": [8]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [7]}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, lerobot_python: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of tiny checkpoints, and what came of each."""
    folder = tmp_path_factory.mktemp("checkpoints")
    done = subprocess.run(
        [str(lerobot_python), str(CHECKS), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(TORCH_CPU), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["act", "act_ensembled", "diffusion", "smolvla"])
def test_actions_are_the_librarys(made: tuple[Path, dict[str, Any]], name: str) -> None:
    found = made[1][name]
    assert found["library"] == 0
    assert found["batch"] < 1e-4 < 0.1 < found["sessions"]


def test_looks(made: tuple[Path, dict[str, Any]]) -> None:
    """At a chunk's end, and where the next one needs to have seen: three steps of diffusion's, five actions a chunk."""
    found = made[1]
    assert found["act"]["looks"] == found["smolvla"]["looks"] == [0, 4, 8, 12]
    assert found["act_ensembled"]["looks"] == list(range(13))
    assert found["diffusion"]["looks"] == [0, 3, 4, 5, 8, 9, 10]
    assert found["diffusion"]["cut short"] == 0  # who looks more often gets the same plan


def test_a_checkpoint_is_evaluated(vlaeval: Command, made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with torch_cpu():
        done = vlaeval(
            *(*TOY[:2], "benchmark=toy", "model=lerobot", f"model.checkpoint={made[0] / 'toy'}", "run=a"),
            f"model.environment.requirements={LEROBOT}",
            f"+model.environment.variables.PYTHONPATH={TORCH_CPU}",
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(merged(tmp_path, "a"))
    assert len(found) == 6 and all(failure is None for _, _, failure in found.values()), found


def folder(place: Path, **changed: Any) -> str:
    (place / "config.json").write_text(json.dumps({**CONFIG, **changed}))
    (place / "policy_preprocessor.json").write_text("{}")
    return str(place)


def test_what_it_looks_at_is_read_of_its_config(tmp_path: Path) -> None:
    policy = LeRobot(checkpoint=folder(tmp_path), cameras=CAMERAS)
    theirs = LIBERO
    assert list(policy.observation_spec) == ["agentview", "wrist", "state", "language"]
    assert not misfits(policy.action_spec, theirs.action_spec, policy.observation_spec, theirs.observation_spec)
    assert [path.name for path in policy.files()] == ["config.json", "policy_preprocessor.json"]
    fewer = LeRobot(checkpoint=folder(tmp_path, type="act"), cameras={**CAMERAS, "observation.images.image2": None})
    assert list(fewer.observation_spec) == ["agentview", "state"]
    assert "image" in LeRobot(checkpoint=folder(tmp_path)).observation_spec


@pytest.mark.parametrize(
    ("changed", "cameras", "says"),
    [
        ({"type": "tdmpc"}, None, "unknown type of policy in .*config.json 'tdmpc'"),
        ({}, {"observation.images.front": "agentview"}, "unknown image of model.params.cameras"),
        ({}, {"observation.images.image": "agentview"}, "no camera for observation.images.image2"),
        (
            {"input_features": {k: {"type": "STATE", "shape": [2]} for k in ("observation.state", "observation.b")}},
            None,
            "one is valid",
        ),
    ],
)
def test_wrong_checkpoints_and_cameras_are_told(tmp_path: Path, changed: Any, cameras: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        LeRobot(checkpoint=folder(tmp_path, **changed), cameras=cameras)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    for checkpoint in (None, "lerobot/act", str(tmp_path)):
        with pytest.raises(ConfigurationError, match=r"config.json is missing: valid: .*hf://"):
            LeRobot(checkpoint=checkpoint)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ConfigurationError, match="migrate_policy_normalization"):
        LeRobot(checkpoint=str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        LeRobot(checkpoint=str(tmp_path))


def test_without_the_library_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs LeRobot"):
        LeRobot(checkpoint=folder(tmp_path)).load()
