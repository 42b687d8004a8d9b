"""X-VLA: a checkpoint with code of its own, loaded by transformers and played by our adapter; and that LIBERO goes to
where such actions say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.policies.checkpoints import fill
from tests.policies.conftest import TORCH_CPU
from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.act import ee6d_actions
from vlaeval_hpc.policies.xvla import XVLA, _ee6d
from vlaeval_hpc.wire.specs import misfits

HERE = Path(__file__).parent
SETTINGS: dict[str, Any] = {"cameras": ["agentview", "wrist"], "domain": 3, "state_dim": 8}


def asked(python: Path, script: str, *arguments: str, **variables: str) -> Any:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    command = [str(python), str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**kept, **variables})
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_reaches_the_model(lerobot_python: Path, tmp_path: Path) -> None:
    variables = {"PYTHONPATH": str(TORCH_CPU), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    found = asked(lerobot_python, "xvla_checks.py", str(tmp_path), **variables)
    assert found["shapes"] == [[30, 7]] * 3 and found["kept"] == [[], 0.0, 0.0]
    first, second = np.array(found["first"]), np.array(found["second"])
    np.testing.assert_allclose(first[:, 0], [0.1, 0.2, 0.3], atol=1e-6)
    # The wrist's corner, white once it is turned, and the words' length, twice where they are long.
    np.testing.assert_allclose(first[:, 1], [1 + 2, 1 + 2 * 7, 1 + 2])
    assert len(set(first[:, 2])) == 3  # noise
    half = np.pi / np.sqrt(2)  # upside down, and a quarter turn of its own
    np.testing.assert_allclose(first[:, 3:6], [[half, half, 0]] * 3, atol=1e-6)
    assert (first[:, 6] == 1).all()
    np.testing.assert_allclose(second[:, 0], first[:, 0] + 0.29, atol=1e-6)  # it goes on from its own last action


def test_libero_goes_where_it_is_told(libero_python: Path) -> None:
    once, again = asked(libero_python, "absolute_checks.py", MUJOCO_GL="osmesa", PYOPENGL_PLATFORM="osmesa")
    assert once == again
    begin, end = np.array(once["begin"]), np.array(once["end"])
    np.testing.assert_allclose(end[:3], begin[:3] + np.array([0, 0, 0.05]), atol=0.01)
    turns = [np.sign(state[3]) * state[3:6] for state in (begin, end)]  # at half a turn both signs are right
    np.testing.assert_allclose(turns[1], turns[0], atol=0.05)


def test_it_fits_where_actions_are_absolute(tmp_path: Path) -> None:
    fill("xvla", tmp_path)
    policy = XVLA(checkpoint=str(tmp_path), **SETTINGS)
    for control, fits in (("absolute", True), ("delta", False)):
        theirs = LIBERO(seed=7, control=control)
        wrong = misfits(policy.action_spec, theirs.action_spec, policy.observation_spec, theirs.observation_spec)
        assert (not wrong) == fits
    with pytest.raises(ConfigurationError, match="unknown control 'relative'"):
        LIBERO(seed=7, control="relative")


def test_calvins_rotations(tmp_path: Path) -> None:
    """Its state's Euler angles and its checkpoint's rows, there and back: scipy's rotations as the judge."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    for angles in rng.uniform(-1.5, 1.5, (20, 3)):
        told = _ee6d(np.r_[np.zeros(3), angles, 0.0, 0.0], 0.0, euler=True, by_rows=True)
        matrix = Rotation.from_euler("xyz", angles).as_matrix()
        np.testing.assert_allclose(told[3:], matrix[:, :2].ravel(), atol=1e-12)
        action = ee6d_actions(np.r_[told, 0.7, np.zeros(10)][None], closed=0.8, by_rows=True)[0]
        np.testing.assert_allclose(action[3:6], Rotation.from_matrix(matrix).as_rotvec(), atol=1e-9)
        assert action[6] == -1.0


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.checkpoint=2toINF/X-VLA-Libero: valid: .*hf://"):
        XVLA(checkpoint="2toINF/X-VLA-Libero", **SETTINGS)
    fill("xvla", tmp_path)
    for wrong in ({"cameras": []}, {"state_dim": 5}):
        with pytest.raises(ConfigurationError, match=rf"model\.params\.{next(iter(wrong))}"):
            XVLA(checkpoint=str(tmp_path), **{**SETTINGS, **wrong})
    with pytest.raises(ConfigurationError, match="needs transformers"):
        XVLA(checkpoint=str(tmp_path), **SETTINGS).load()
