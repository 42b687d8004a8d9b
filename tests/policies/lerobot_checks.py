"""What test_lerobot.py asks of LeRobot's own Python: in FOLDER it saves tiny checkpoints, with the library itself, and
plays episodes of each through our adapter and through the library: one JSON value on the last line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.lerobot import LeRobot
from vlaeval_hpc.policies.noise import seed_of

torch.set_num_threads(1)
SIZE, STEPS = 32, 13
CAMERAS = {"observation.images.image": "agentview", "observation.images.image2": "wrist"}
TOLD = ["pick up the bowl", "open the drawer now please", "push"]
RESNET = {"vision_backbone": "resnet18", "pretrained_backbone_weights": None}
ACT = {
    "chunk_size": 6,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "use_vae": False,
    **RESNET,
}
POLICIES = {
    "act": ("act", {**ACT, "n_action_steps": 4}),
    "act_ensembled": ("act", {**ACT, "n_action_steps": 1, "temporal_ensemble_coeff": 0.01}),
    "diffusion": (
        "diffusion",
        {
            "n_obs_steps": 3,
            "horizon": 8,
            "n_action_steps": 5,
            "down_dims": (16, 32),
            "n_groups": 4,
            "num_train_timesteps": 4,
            "spatial_softmax_num_keypoints": 4,
            "crop_shape": None,
            **RESNET,
        },
    ),
    "smolvla": (
        "smolvla",
        {
            "chunk_size": 6,
            "n_action_steps": 4,
            "num_steps": 2,
            "num_vlm_layers": 2,
            "max_state_dim": 8,
            "max_action_dim": 7,
            "resize_imgs_with_padding": (64, 64),
            "load_vlm_weights": False,
        },
    ),
}


def make(folder: Path) -> None:
    make_vlm(folder / "vlm")
    state, action = PolicyFeature(FeatureType.STATE, (8,)), PolicyFeature(FeatureType.ACTION, (7,))
    images = {key: PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)) for key in CAMERAS}
    for name, (kind, settings) in POLICIES.items():
        torch.manual_seed(0)
        more = {"vlm_model_name": str(folder / "vlm")} if kind == "smolvla" else {}
        inputs, outputs = {**images, "observation.state": state}, {"action": action}
        save(folder / name, kind, inputs, outputs, {**settings, **more})
    # For the toy benchmark: tests/doubles/toy.py.
    inputs = {"observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 8, 8))}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (3,))
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (2,))}
    save(folder / "toy", "diffusion", inputs, outputs, POLICIES["diffusion"][1])


def save(folder: Path, kind: str, inputs, outputs, settings) -> None:
    config = make_policy_config(kind, input_features=inputs, output_features=outputs, device="cpu", **settings)
    policy = get_policy_class(kind)(config)
    policy.save_pretrained(folder)
    rng = np.random.default_rng(1)
    stats = {
        key: {
            "mean": torch.tensor(rng.normal(size=f.shape if f.type != FeatureType.VISUAL else (3, 1, 1))).float(),
            "std": torch.tensor(rng.uniform(0.5, 2, f.shape if f.type != FeatureType.VISUAL else (3, 1, 1))).float(),
            "min": torch.zeros(f.shape if f.type != FeatureType.VISUAL else (3, 1, 1)) - 2,
            "max": torch.zeros(f.shape if f.type != FeatureType.VISUAL else (3, 1, 1)) + 3,
        }
        for key, f in {**inputs, **outputs}.items()
    }
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)


def make_vlm(folder: Path) -> None:
    """A language and vision model of SmolVLA's kind, two layers deep."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    named = {"image_token": "<image>", "fake_image_token": "<fake>", "global_image_token": "<global>"}
    special = ["<unk>", "<pad>", "<s>", "</s>", *named.values(), "<end_of_utterance>"]
    words = sorted({word for told in TOLD for word in told.split()})
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=named, **ends)
    SmolVLMProcessor(SmolVLMImageProcessor(), fast, SmolVLMVideoProcessor(), chat_template="").save_pretrained(folder)
    text = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "head_dim": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(vocabulary),
        "pad_token_id": 1,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, image_token_id=4).save_pretrained(folder)


def observation(session: int, step: int):
    rng = np.random.default_rng([session, step])
    return {
        "images": {name: rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for name in CAMERAS.values()},
        "states": rng.normal(size=8),
        "task_description": TOLD[session],
    }


class Library:
    """The library's own evaluation loop."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.policy = get_policy_class(config["type"]).from_pretrained(folder)
        self.before, self.after = make_pre_post_processors(self.policy.config, pretrained_path=str(folder))

    def play(self, session: int):
        """Actions (STEPS, 7)."""
        self.policy.reset()
        actions = []
        for step in range(STEPS):
            seen = observation(session, step)
            batch = {
                key: torch.from_numpy(seen["images"][name]).permute(2, 0, 1)[None].float() / 255
                for key, name in CAMERAS.items()
            }
            batch["observation.state"] = torch.from_numpy(seen["states"]).float()[None]
            batch["task"] = [seen["task_description"]]
            with torch.inference_mode():
                batch = self.before(batch)
                torch.manual_seed(seed_of(Session("", seed=session, step=step)))
                actions.append(self.after(self.policy.select_action(batch))[0].numpy())
        return np.array(actions)


def ours(policy: LeRobot, players: list[int], chunk_size=None):
    """As our server plays it, those who need to look at the same time together: actions and looks a session."""
    sessions = {i: Session(str(i), seed=i) for i in players}
    actions, queues, looks = {i: [] for i in players}, {i: [] for i in players}, {i: [] for i in players}
    for step in range(STEPS):
        # The last of several is two steps behind, so that not all need a chunk at once.
        active = [i for i in players if step >= 2 * (i == players[-1] and len(players) > 1)]
        asking = [i for i in active if not queues[i]]
        if asking:
            seen = [observation(i, sessions[i].step) for i in asking]
            chunks = policy.predict(seen, [sessions[i] for i in asking])
            for i, chunk in zip(asking, chunks, strict=True):
                queues[i] = list(chunk[:chunk_size])
                looks[i].append(sessions[i].step)
        for i in active:
            actions[i].append(queues[i].pop(0))
            sessions[i].step += 1
    return {i: np.array(a) for i, a in actions.items()}, looks


def gap(one, other) -> float:
    """The largest difference, of the steps that both have."""
    count = min(len(one), len(other))
    return float(np.abs(np.asarray(one)[:count] - np.asarray(other)[:count]).max())


def compare(folder: Path):
    library, policy = Library(folder), LeRobot(checkpoint=str(folder), cameras=CAMERAS)
    policy.load()
    expected = {i: library.play(i) for i in range(2)}
    alone = {i: ours(policy, [i]) for i in range(2)}
    together, _ = ours(policy, [0, 1])
    short, _ = ours(policy, [1], chunk_size=2)
    return {
        "library": max(gap(alone[i][0][i], expected[i]) for i in range(2)),
        "batch": max(gap(together[i], alone[i][0][i]) for i in range(2)),
        "cut short": gap(short[1], alone[1][0][1]),
        "sessions": gap(expected[0], expected[1]),
        "looks": alone[0][1][0],
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    make(place)
    print(json.dumps({name: compare(place / name) for name in POLICIES}))
