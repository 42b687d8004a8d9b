"""The surface of Dexbotic's own class: names, arguments and results; its weights are not to be had."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn


class CogACTForCausalLM(nn.Module):
    dtype = torch.bfloat16

    @classmethod
    def from_pretrained(cls, path, torch_dtype=None, trust_remote_code=None):
        assert torch_dtype == torch.bfloat16 and trust_remote_code
        model = cls()
        model.config = SimpleNamespace(chat_template="dexbotic")
        return model

    def process_images(self, images):
        return torch.stack([torch.from_numpy(np.asarray(i)).permute(2, 0, 1).float() for i in images])

    def inference_action(self, input_ids, image_tensor, inference_args):
        """Sixteen lists of seven: the frame's mean, the tokens' number, noise, the norms' max."""
        assert input_ids.shape[0] == 1 and image_tensor.dtype == self.dtype and image_tensor.shape[:2] == (1, 3)
        assert sorted(inference_args) == ["action_norms", "cfg_scale", "num_ddim_steps"]
        noise = torch.randn(1, 16, 7)
        action = [float(image_tensor.float().mean()), float(input_ids.shape[1]), float(noise[0, 0, 0])]
        return [[*action, float(inference_args["action_norms"]["max"][0]), 0.0, 0.0, -1.0]] * 16
