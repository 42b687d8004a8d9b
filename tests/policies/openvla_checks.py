"""What test_openvla.py asks of transformers: `FOLDER` gets a tiny checkpoint with code of its own, which is loaded and
played by our adapters; one JSON value on the last line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "doubles_vla"))

from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForVision2Seq, AutoProcessor, PreTrainedTokenizerFast

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.frames import cropped, shrunk
from vlaeval_hpc.policies.oft import OFT
from vlaeval_hpc.policies.openvla import OpenVLA
from vlaeval_hpc.serving.conformance import compare

LOW, HIGH = [-0.5] * 6 + [0.0], [0.5, 0.4, 0.3, 0.2, 0.1, 0.6, 1.0]
STATISTICS = {"libero_spatial_no_noops": {"action": {"q01": LOW, "q99": HIGH, "mask": [True] * 6 + [False]}}}
WORDS = "In: What action should the robot take to open drawer now? push the bowl?\nOut:"


def make(folder: Path) -> None:
    """As a fine-tuned checkpoint of OpenVLA lies on the hub."""
    folder.mkdir()
    for path in (Path(__file__).parent / "tiny_vla").glob("*.py"):
        shutil.copy(path, folder)
    code = {
        "AutoConfig": "configuration_tiny.TinyConfig",
        "AutoModelForVision2Seq": "modeling_tiny.TinyForActionPrediction",
    }
    config = {"auto_map": code, "model_type": "openvla", "norm_stats": {"bridge_orig": STATISTICS}}
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["TinyForActionPrediction"]}))
    (folder / "dataset_statistics.json").write_text(json.dumps(STATISTICS))
    processors = {
        "AutoImageProcessor": "processing_tiny.TinyImageProcessor",
        "AutoProcessor": "processing_tiny.TinyProcessor",
    }
    (folder / "processor_config.json").write_text(
        json.dumps({"auto_map": {"AutoProcessor": processors["AutoProcessor"]}, "processor_class": "TinyProcessor"})
    )
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"auto_map": processors, "image_processor_type": "TinyImageProcessor"})
    )
    vocabulary = {word: i for i, word in enumerate(["<unk>", *sorted(set(WORDS.split()))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    llama = {"unk_token": "<unk>", "model_input_names": ["input_ids", "attention_mask"]}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **llama).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"vision_backbone.eye.weight": (7, 3), "vision_backbone.eye.bias": (7,), "words.weight": (64, 7)}
    torch.save({name: torch.randn(size) / 4 for name, size in shape.items()}, folder / "pytorch_model.bin")
    for part in ("action_head", "proprio_projector", "noisy_action_projector"):
        torch.save({}, folder / f"{part}--150000_checkpoint.pt")


def seen(told: str):
    rng = np.random.default_rng(len(told))
    images = {name: rng.integers(0, 256, (256, 256, 3), np.uint8) for name in ("agentview", "wrist")}
    return {"images": images, "states": np.arange(1.0, 9.0), "task_description": told}


def theirs(folder: Path, told: str):
    """The library by hand: prompt, crop, units; the gripper left as it comes."""
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForVision2Seq.from_pretrained(folder, trust_remote_code=True, torch_dtype=torch.float32)
    model.norm_stats = STATISTICS
    picture = Image.fromarray(cropped(shrunk(seen(told)["images"]["agentview"], 224), 0.9))
    inputs = processor(f"In: What action should the robot take to {told.lower()}?\nOut:", picture)
    with torch.inference_mode():
        action = model.predict_action(**inputs, unnorm_key="libero_spatial_no_noops", do_sample=False)
    return action.tolist()


def openvla(folder: Path):
    policy = OpenVLA(checkpoint=str(folder), camera="agentview", unnorm_key="libero_spatial", gripper="open_unit")
    policy.load()
    told = ["Open drawer", "push the bowl"]
    both = policy.predict([seen(words) for words in told], [Session("a"), Session("b")])
    wrong = OpenVLA(checkpoint=str(folder), camera="agentview", dtype="bf16")
    try:
        wrong.load()
        said = ""
    except ConfigurationError as error:
        said = str(error)
    return {
        "ours": [chunk.tolist() for chunk in both],
        "theirs": [theirs(folder, words) for words in told],
        "files": [path.name for path in policy.files()],
        "wrong": said,
    }


def oft(folder: Path, **more):
    before = sorted(path.name for path in folder.iterdir())
    settings = {"cameras": ["agentview", "wrist"], "unnorm_key": "libero_spatial", "gripper": "open_unit", **more}
    policy = OFT(checkpoint=str(folder), **settings)
    policy.load()
    told = [seen("go"), seen("push")]
    both = policy.predict(told, [Session("a", seed=1), Session("b", seed=2)])
    kept = compare(policy, [([one, one], {}, seed) for seed, one in enumerate(told, 1)], None)  # as `check` does
    return {
        "chunks": [chunk.tolist() for chunk in both],
        "kept": [kept["faults"], kept["again"], kept["beside"]],
        "means": [[float(one["images"][c].mean()) for c in settings["cameras"]] for one in told],
        "untouched": before == sorted(path.name for path in folder.iterdir()) and told[0]["states"] is not None,
    }


if __name__ == "__main__":
    place = Path(sys.argv[1]) / "openvla"
    make(place)
    found = {
        "openvla": openvla(place),
        "oft": oft(place, state_dim=8),
        "diffusion": oft(place, head="diffusion", crop=False),
    }
    print(json.dumps(found))
