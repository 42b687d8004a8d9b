"""OpenVLA and OpenVLA-OFT: a checkpoint with code of its own, loaded by transformers and played by our adapters."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.policies.conftest import TORCH_CPU
from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.oft import OFT
from vlaeval_hpc.policies.openvla import OpenVLA
from vlaeval_hpc.wire.specs import misfits

CHECKS = Path(__file__).with_name("openvla_checks.py")
KNOWN = {"bridge_orig": {"action": {"q01": [0.0] * 7}}, "libero_spatial_no_noops": {"action": {"q01": [0.0] * 7}}}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, lerobot_python: Path) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [str(lerobot_python), str(CHECKS), str(home)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**kept, "PYTHONPATH": str(TORCH_CPU), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_openvla_acts_as_the_library_by_hand(played: dict[str, Any]) -> None:
    found = played["openvla"]
    for ours, theirs in zip(found["ours"], found["theirs"], strict=True):
        np.testing.assert_allclose([*ours[0][:6]], theirs[:6], atol=1e-6)
        assert theirs[6] > 0.5 and ours[0][6] == -1  # open
    assert not np.allclose(found["ours"][0], found["ours"][1])
    assert {"modeling_tiny.py", "pytorch_model.bin", "dataset_statistics.json"} <= set(found["files"])
    assert found["wrong"].startswith("model.params.dtype=bf16: valid:")


def test_oft_hands_its_package_what_it_wants(played: dict[str, Any]) -> None:
    found = played["oft"]
    for told, chunk, means in zip(("go", "push"), found["chunks"], found["means"], strict=True):
        np.testing.assert_allclose(chunk, [[means[0] + i, means[1], 0, len(told), 1, 0, -1] for i in range(8)])
    # Its own loader would write code and settings into the checkpoint.
    assert found["untouched"]


def test_diffusion_draws_each_sessions_noise(played: dict[str, Any]) -> None:
    found = played["diffusion"]
    drawn = [chunk[0][5] for chunk in found["chunks"]]
    assert drawn[0] != drawn[1] and found["kept"] == [[], 0.0, 0.0]


def checkpoint(folder: Path, known: dict[str, Any] | None = None) -> str:
    (folder / "config.json").write_text(json.dumps({"norm_stats": KNOWN}))
    if known is not None:
        (folder / "dataset_statistics.json").write_text(json.dumps(known))
    return str(folder)


def test_they_fit_libero(tmp_path: Path) -> None:
    where, theirs = checkpoint(tmp_path), LIBERO
    for policy in (
        OpenVLA(checkpoint=where, camera="agentview", unnorm_key="libero_spatial"),
        OFT(checkpoint=where, cameras=["agentview", "wrist"], state_dim=8, unnorm_key="libero_spatial"),
    ):
        assert not misfits(policy.action_spec, theirs.action_spec, policy.observation_spec, theirs.observation_spec)


@pytest.mark.parametrize("policy", [lambda **m: OpenVLA(camera="a", **m), lambda **m: OFT(cameras=["a"], **m)])
def test_statistics_are_found_or_told(policy: Any, tmp_path: Path) -> None:
    where = checkpoint(tmp_path)
    with pytest.raises(ConfigurationError, match=r"knows 2: valid: bridge_orig, libero_spatial_no_noops"):
        policy(checkpoint=where)
    with pytest.raises(ConfigurationError, match="did you mean bridge_orig"):
        policy(checkpoint=where, unnorm_key="bridge")
    with pytest.raises(ConfigurationError, match=r"model\.params\.gripper"):
        policy(checkpoint=where, unnorm_key="bridge_orig", gripper="shut")
    # Those of the fine-tuning go before those of the config.
    assert (
        policy(checkpoint=checkpoint(tmp_path, {"mine": {"action": {"q01": [0.0] * 9}}})).action_spec["action"].dims
        == 9
    )
    with pytest.raises(ConfigurationError, match="no q01"):
        policy(checkpoint=checkpoint(tmp_path, {"mine": {}}))
    (tmp_path / "dataset_statistics.json").write_text("{")
    with pytest.raises(ConfigurationError, match="no dataset_statistics"):
        policy(checkpoint=where)
    with pytest.raises(ConfigurationError, match=r"model\.checkpoint=openvla/openvla-7b: valid: .*hf://"):
        policy(checkpoint="openvla/openvla-7b")


def test_wrong_parameters_are_told(tmp_path: Path) -> None:
    where = checkpoint(tmp_path, {"mine": {"action": {"q01": [0.0] * 7}}})
    for wrong in ({"crop": 1.5}, {"prompt": "go"}):
        with pytest.raises(ConfigurationError, match=rf"model\.params\.{next(iter(wrong))}"):
            OpenVLA(checkpoint=where, camera="a", **wrong)  # type: ignore[arg-type]
    for wrong_too in ({"head": "mse"}, {"cameras": []}):
        with pytest.raises(ConfigurationError, match=rf"model\.params\.{next(iter(wrong_too))}"):
            OFT(**{"checkpoint": where, "cameras": ["a"], **wrong_too})
    for policy in (OpenVLA(checkpoint=where, camera="a"), OFT(checkpoint=where, cameras=["a"])):
        with pytest.raises(ConfigurationError, match="needs"):
            policy.load()
