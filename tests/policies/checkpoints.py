"""Folders that hold as much of a checkpoint as a policy's constructor reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

PEERS = Path(__file__).parent / "peers"
SEVEN = {"action": {"q01": [0.0] * 7, "q99": [1.0] * 7}}


def needs(model: str, folder: Path, benchmark: str = "libero") -> list[str]:
    """Overrides without which conf/model/<model>.yaml is not complete, of a checkpoint for the benchmark."""
    if (model, benchmark) in OTHERS:
        fill(model, folder, OTHERS[model, benchmark])
        return [f"model.checkpoint={folder}"]
    addresses = {"openpi": "ws://h:1", "act": "http://h:1", "gr00t": "tcp://h:1"}
    if model in addresses:
        return [f"model.params.url={addresses[model]}"]
    if model == "vla_eval":
        return [f"model.params.script={PEERS / 'vla_eval_model.py'}"]
    if model == "replay":
        np.savez(folder / "recorded.npz", **{"a/0": np.zeros((1, 4))})
        return [f"model.params.path={folder / 'recorded.npz'}"]
    if model in MAKERS:
        fill(model, folder)
        return [f"model.checkpoint={folder}"]
    return []


def fill(model: str, folder: Path, files: dict[str, Any] | None = None) -> None:
    """Write the files of MAKERS, or others."""
    for name, content in (files or MAKERS[model]).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def _lerobot(*cameras: str) -> dict[str, Any]:
    images = {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, 256, 256]} for name in cameras}
    state = {"observation.state": {"type": "STATE", "shape": [8]}}
    output = {"action": {"type": "ACTION", "shape": [7]}}
    return {"type": "smolvla", "input_features": {**images, **state}, "output_features": output}


MAKERS: dict[str, dict[str, Any]] = {
    "lerobot": {"config.json": _lerobot("image", "image2"), "policy_preprocessor.json": {}},
    "openvla": {"config.json": {}, "dataset_statistics.json": {"libero_spatial": SEVEN}},
    "pi0": {"params": {}},
    "rtc": {"worlds_l_grasp_easy.pkl": {}},
    "xvla": {"config.json": {}},
    "gr00t_local": {"config.json": {}},
    "cogact": {
        "config.json": {},
        "dataset_statistics.json": {"bridge_orig": SEVEN, "libero_spatial": SEVEN},
        "checkpoints/weights.pt": {},
    },
    "db_cogact": {"config.json": {}, "norm_stats.json": {"norm_stats": {"default": {"min": [-1.0], "max": [3.0]}}}},
    "starvla": {
        "dataset_statistics.json": {"franka": SEVEN},
        "checkpoints/steps_30000_pytorch_model.pt": {},
    },
    "oft": {"config.json": {}, "dataset_statistics.json": {"libero_spatial_no_noops": SEVEN}},
}

OTHERS: dict[tuple[str, str], dict[str, Any]] = {
    ("lerobot", "pusht"): {
        "config.json": {
            "type": "diffusion",
            "n_obs_steps": 2,
            "input_features": {
                "observation.image": {"type": "VISUAL", "shape": [3, 96, 96]},
                "observation.state": {"type": "STATE", "shape": [2]},
            },
            "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        },
        "policy_preprocessor.json": {},
    },
    ("cogact", "libero_pro"): {**MAKERS["cogact"], "dataset_statistics.json": {"libero_spatial": SEVEN}},
    ("openvla", "simpler"): {"config.json": {"norm_stats": {"bridge_orig": SEVEN, "kuka": SEVEN}}},
    ("starvla", "simpler"): {**MAKERS["starvla"], "dataset_statistics.json": {"bridge_dataset": SEVEN, "rt1": SEVEN}},
}
"""Of models whose checkpoint for another benchmark has other files."""
