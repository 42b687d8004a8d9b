"""What test_libraries.py asks of policies whose libraries need weights or a GPU: our adapters on doubles of those
libraries' surfaces (doubles_vla); `FOLDER` gets what a checkpoint's folder has beside its weights. One JSON value on
the last line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "doubles_vla"))

from checkpoints import MAKERS, fill

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.cogact import CogACT
from vlaeval_hpc.policies.dexbotic import DBCogACT
from vlaeval_hpc.policies.gr00t_local import Gr00tLocal
from vlaeval_hpc.policies.pi0 import Pi0
from vlaeval_hpc.policies.starvla import StarVLA
from vlaeval_hpc.serving.conformance import compare

PARTS = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
OPENPI = {"observation/image": "agentview", "observation/wrist_image": "wrist"}
GR00T = {
    "dim": 7,
    "cameras": {"image": "agentview", "wrist_image": "wrist"},
    "gripper": "open_unit",
    "state": {name: 2 if name == "gripper" else 1 for name in PARTS},
    "action": PARTS,
    "prompt": "annotation",
}
POLICIES = {
    "pi0": (Pi0, {"config": "pi05_libero", "dim": 7, "cameras": OPENPI, "state_dim": 8}),
    "gr00t_local": (Gr00tLocal, {"embodiment": "LIBERO_PANDA", **GR00T}),
    "cogact": (CogACT, {"camera": "agentview", "unnorm_key": "bridge_orig", "gripper": "open_unit"}),
    "db_cogact": (DBCogACT, {"cameras": ["agentview"]}),
    "starvla": (StarVLA, {"cameras": ["agentview", "wrist"], "state_dim": 8, "gripper": "open_unit"}),
}
WRONG = {
    "config": (Pi0, "pi0", {**POLICIES["pi0"][1], "config": "pi_libero"}),
    "embodiment": (Gr00tLocal, "gr00t_local", {**POLICIES["gr00t_local"][1], "embodiment": "PANDA"}),
    "gpu": (CogACT, "cogact", POLICIES["cogact"][1]),
}


def seen(told: str, value: int):
    images = {
        "agentview": np.full((256, 256, 3), value, np.uint8),
        "wrist": np.full((256, 256, 3), 2 * value, np.uint8),
    }
    return {"images": images, "states": np.arange(1.0, 9.0), "task_description": told}


def promises(policy, told) -> list:
    """What `check` finds: faults, and how far answers are from themselves later on and in a batch."""
    found = compare(policy, [([one, one], {}, seed) for seed, one in enumerate(told, 1)], None)
    return [found["faults"], found["again"], found["beside"], found["batched"]]


def played(kind, folder: Path, settings):
    policy = kind(checkpoint=str(folder), **settings)
    policy.load()
    told, sessions = [seen("go", 10), seen("push it", 20)], [Session("a", seed=1), Session("b", seed=2, step=8)]
    together = policy.predict(told, sessions)
    return {
        "chunks": [list(chunk.shape) for chunk in together],
        "first": [chunk[0].tolist() for chunk in together],
        "kept": promises(policy, told),
        "files": [path.name for path in policy.files()],
    }


def told_wrong(kind, folder: Path, settings) -> str:
    try:
        kind(checkpoint=str(folder), **settings).load()
    except ConfigurationError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    place, found = Path(sys.argv[1]), {}
    for name in MAKERS:
        (place / name).mkdir()
        fill(name, place / name)
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained = staticmethod(lambda folder: lambda text: text)  # Dexbotic's double reads bytes
    found["wrong"] = {key: told_wrong(kind, place / name, settings) for key, (kind, name, settings) in WRONG.items()}
    for name, (kind, settings) in POLICIES.items():
        real = torch.cuda.is_available
        torch.cuda.is_available = (lambda: True) if name == "cogact" else real  # its double's `to` stays here
        found[name] = played(kind, place / name, settings)
        torch.cuda.is_available = real
    fast = {**POLICIES["pi0"][1], "config": "pi0_fast_libero"}
    found["fast"] = played(Pi0, place / "pi0", fast)
    chunked = DBCogACT(checkpoint=str(place / "db_cogact"), cameras=["agentview"], chunks={"libero_spatial": 12})
    chunked.load()
    tasks = [Session("a", task={"suite": suite}) for suite in ("libero_spatial", "libero_90", "libero_spatial_swap")]
    found["chunks by suite"] = [len(chunk) for chunk in chunked.predict([seen("go", 1)] * 3, tasks)]
    print(json.dumps(found))
