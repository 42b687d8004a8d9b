"""What test_xvla.py asks of transformers: `FOLDER` gets a tiny checkpoint of X-VLA's surface with code of its own,
which our adapter loads and plays; one JSON value on the last line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.xvla import XVLA
from vlaeval_hpc.serving.conformance import compare

SETTINGS = {"cameras": ["agentview", "wrist"], "domain": 3, "state_dim": 8, "turn": ["wrist"], "state_turn": -np.pi / 2}


def make(folder: Path) -> None:
    folder.mkdir()
    for path in (Path(__file__).parent / "tiny_xvla").glob("*.py"):
        shutil.copy(path, folder)
    code = {"AutoConfig": "modeling_tiny_xvla.TinyXVLAConfig", "AutoModel": "modeling_tiny_xvla.TinyXVLA"}
    (folder / "config.json").write_text(json.dumps({"auto_map": code, "model_type": "xvla"}))
    processor = {"AutoProcessor": "processing_tiny_xvla.TinyXVLAProcessor"}
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).write_text(json.dumps({"auto_map": processor, "processor_class": "TinyXVLAProcessor"}))
    torch.save({"layer.weight": torch.ones(1, 1), "layer.bias": torch.ones(1)}, folder / "pytorch_model.bin")


def seen(told: str, x: float):
    wrist = np.zeros((256, 256, 3), np.uint8)
    wrist[-1, -1] = 255
    images = {"agentview": np.zeros((256, 256, 3), np.uint8), "wrist": wrist}
    return {"images": images, "states": np.array([x, 0, 0, np.pi, 0, 0, 0, 0]), "task_description": told}


if __name__ == "__main__":
    place = Path(sys.argv[1]) / "xvla"
    make(place)
    policy = XVLA(checkpoint=str(place), **SETTINGS)
    policy.load()
    told = [seen("go", 0.1), seen("push it", 0.2), seen("up", 0.3)]  # the second is of another length
    sessions = [Session(str(i), seed=i) for i in range(3)]
    first = policy.predict(told, sessions)
    # As `check` does: alone, again, and side by side.
    kept = compare(policy, [([one, one], {}, seed) for seed, one in enumerate(told)], None)
    second = policy.predict(told, sessions)
    print(
        json.dumps(
            {
                "first": [chunk[0].tolist() for chunk in first],
                "shapes": [list(chunk.shape) for chunk in first],
                "kept": [kept["faults"], kept["again"], kept["beside"]],
                "second": [chunk[0].tolist() for chunk in second],
            }
        )
    )
