"""Policies whose libraries need weights or a GPU, on doubles of those libraries' surfaces: what reaches them, and that
each session has its own noise whoever else is asked about."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.policies.checkpoints import fill
from tests.policies.conftest import TORCH_CPU
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.cogact import CogACT
from vlaeval_hpc.policies.dexbotic import DBCogACT
from vlaeval_hpc.policies.gr00t_local import Gr00tLocal
from vlaeval_hpc.policies.pi0 import Pi0
from vlaeval_hpc.policies.starvla import StarVLA

CHECKS = Path(__file__).with_name("libraries_checks.py")
# Of the first action, where the noise stands, and the rest for both observations.
EXPECTED: dict[str, tuple[int, int, list[list[float]]]] = {
    "pi0": (10, 4, [[10, 20, 8, 2, 0, -1], [20, 40, 8, 7, 0, -1]]),
    "gr00t_local": (16, 4, [[10, 20, 1, 2, 8, -1], [20, 40, 1, 7, 8, -1]]),
    "cogact": (16, 2, [[10, 2, 0, 0, 0, -1], [20, 7, 0, 0, 0, -1]]),
    "db_cogact": (16, 2, [[10, 67, 3, 0, 0, -1], [20, 72, 3, 0, 0, -1]]),
    "starvla": (8, 4, [[10, 20, 2, 8, 0, -1], [20, 40, 7, 8, 0, -1]]),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, lerobot_python: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(lerobot_python), str(CHECKS), str(tmp_path_factory.mktemp("checkpoints"))],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(TORCH_CPU), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("model", EXPECTED)
def test_what_reaches_the_library(played: dict[str, Any], model: str) -> None:
    count, noisy, expected = EXPECTED[model]
    found = played[model]
    assert found["chunks"] == [[count, 7]] * 2
    noise = [action.pop(noisy) for action in found["first"]]
    assert found["first"] == expected
    assert found["kept"] == [[], 0.0, 0.0, 2] and noise[0] != noise[1]


def test_pi0_fast_starts_from_no_noise(played: dict[str, Any]) -> None:
    assert [action[4] for action in played["fast"]["first"]] == [0, 0]
    assert played["fast"]["kept"] == [[], 0.0, 0.0, 2]


def test_a_suite_has_its_own_chunks(played: dict[str, Any]) -> None:
    assert played["chunks by suite"] == [12, 16, 12]


def test_what_the_library_does_not_know_is_told(played: dict[str, Any]) -> None:
    said = played["wrong"]
    assert said["config"].startswith("model.params.config=pi_libero: ") and "pi05_libero" in said["config"]
    assert said["embodiment"] == "unknown model.params.embodiment 'PANDA': did you mean LIBERO_PANDA? valid: GR1, " + (
        "LIBERO_PANDA"
    )
    assert said["gpu"] == "model=cogact needs a GPU"


def test_the_checkpoints_files(played: dict[str, Any]) -> None:
    assert played["cogact"]["files"] == ["weights.pt", "config.json", "dataset_statistics.json"]
    assert played["starvla"]["files"] == ["dataset_statistics.json", "steps_30000_pytorch_model.pt"]
    assert played["db_cogact"]["files"] == ["config.json", "norm_stats.json"]


POLICIES: dict[str, Any] = {
    "pi0": lambda where: Pi0(checkpoint=where, config="pi05_libero", dim=7, cameras={"observation/image": "a"}),
    "gr00t_local": lambda where: Gr00tLocal(
        checkpoint=where, embodiment="GR1", dim=1, cameras={}, state={"x": 1}, action=["x"], prompt="p"
    ),
    "cogact": lambda where: CogACT(checkpoint=where, camera="a", unnorm_key="bridge_orig"),
    "db_cogact": lambda where: DBCogACT(checkpoint=where, cameras=["a"]),
    "starvla": lambda where: StarVLA(checkpoint=where, cameras=["a"]),
}


@pytest.mark.parametrize("model", POLICIES)
def test_other_checkpoints_and_missing_libraries_are_told(model: str, tmp_path: Path) -> None:
    for wrong in (None, "org/name", str(tmp_path / "none")):
        with pytest.raises(ConfigurationError, match=rf"model\.checkpoint={wrong}: .*valid: .*hf://"):
            POLICIES[model](wrong)
    fill(model, tmp_path)
    with pytest.raises(ConfigurationError, match=f"model={model} needs"):
        POLICIES[model](str(tmp_path)).load()


def test_what_a_checkpoint_lacks_is_told(tmp_path: Path) -> None:
    fill("cogact", tmp_path)
    (tmp_path / "checkpoints" / "more.pt").touch()
    with pytest.raises(ConfigurationError, match=r"2 checkpoints/\*\.pt: valid: one"):
        POLICIES["cogact"](str(tmp_path))
    with pytest.raises(ConfigurationError, match="no norm_stats.json with a 'default'"):
        POLICIES["db_cogact"](str(tmp_path))
    other = tmp_path / "starvla"
    other.mkdir()
    fill("starvla", other)
    (other / "checkpoints" / "a.pt").touch()
    assert POLICIES["starvla"](str(other)).files()[-1].name == "steps_30000_pytorch_model.pt"
    assert POLICIES["starvla"](str(other / "checkpoints" / "a.pt")).files()[-1].name == "a.pt"
