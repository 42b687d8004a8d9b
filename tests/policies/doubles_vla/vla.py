"""The surface of CogACT's own package at b174a1b: names, arguments and results; its weights are not to be had."""

import numpy as np
import torch
from torch import nn


class CogACT(nn.Module):
    def __init__(self, window, action_dim):
        super().__init__()
        self.vlm = nn.Linear(1, 1)
        self.window = window
        self.action_dim = action_dim

    def to(self, device):
        assert device == "cuda" and self.vlm.weight.dtype == torch.bfloat16
        return self

    def predict_action_batch(
        self, image, instruction, unnorm_key=None, cfg_scale=1.5, use_ddim=False, num_ddim_steps=10, **kwargs
    ):
        """(b, window + 1, dim): the frame's mean, the words' length, noise; and the same once more."""
        assert (unnorm_key, cfg_scale, use_ddim, num_ddim_steps) == ("bridge_orig", 1.5, True, 10)
        assert kwargs == {"do_sample": False} and image[0].mode == "RGB" and len(image) == len(instruction)
        noise = torch.randn(len(image), self.window + 1, self.action_dim)
        told = np.zeros((len(image), self.window + 1, self.action_dim))
        for i, (frame, words) in enumerate(zip(image, instruction, strict=True)):
            told[i, :, 0], told[i, :, 1] = np.asarray(frame).mean(), len(words)
        told[:, :, 2] = noise[:, :, 0].numpy()
        told[:, :, 6] = 1.0
        return told, told


def load_vla(
    model_id_or_path, hf_token=None, cache_dir=None, load_for_training=False, model_type="pretrained", **kwargs
):
    assert model_id_or_path.endswith(".pt") and not load_for_training and kwargs["action_model_type"] == "DiT-B"
    return CogACT(kwargs["future_action_window_size"], kwargs["action_dim"])
