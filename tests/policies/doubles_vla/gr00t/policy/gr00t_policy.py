"""The surface of Isaac-GR00T's own module at 226ca9b, with the checks that it makes; its weights are not to be had."""

import numpy as np
import torch
from gr00t.data.embodiment_tags import EmbodimentTag

STATE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


class Gr00tPolicy:
    def __init__(self, embodiment_tag, model_path, *, device, strict=True):
        assert isinstance(embodiment_tag, EmbodimentTag) and isinstance(model_path, str) and strict

    def get_action(self, observation, options=None):
        """({key: (b, 16, 1)}, {}): the images' means, the state's first, the words' length, noise."""
        count = len(observation["video"]["image"])
        for key in ("image", "wrist_image"):
            video = observation["video"][key]
            assert video.dtype == np.uint8 and video.shape[:2] == (count, 1) and video.ndim == 5
        assert tuple(observation["state"]) == STATE
        for key, value in observation["state"].items():
            assert value.dtype == np.float32 and value.shape == (count, 1, 2 if key == "gripper" else 1)
        (words,) = observation["language"].values()
        assert len(words) == count and all(isinstance(one[0], str) and len(one) == 1 for one in words)
        noise = torch.randn(size=(count, 16, 32), dtype=torch.float32)
        told = {
            "x": observation["video"]["image"].mean(axis=(1, 2, 3, 4)),
            "y": observation["video"]["wrist_image"].mean(axis=(1, 2, 3, 4)),
            "z": observation["state"]["x"][:, 0, 0],
            "roll": np.array([len(one[0]) for one in words]),
            "pitch": noise[:, 0, 0].numpy(),
            "yaw": observation["state"]["gripper"][:, 0, 1],
            "gripper": np.ones(count),
        }
        return {k: np.tile(v[:, None, None], (1, 16, 1)).astype(np.float32) for k, v in told.items()}, {}
