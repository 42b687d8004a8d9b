"""X-VLA's surface, over one small layer: code that lies in a checkpoint, as X-VLA's does."""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class TinyXVLAConfig(PretrainedConfig):
    model_type = "xvla"


class TinyXVLA(PreTrainedModel):
    config_class = TinyXVLAConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(1, 1)
        self.post_init()

    def generate_actions(self, input_ids, image_input, image_mask, domain_id, proprio, steps=10):
        """(b, 30, 20): further in x; images and words; noise and domain; the rotation that it is told."""
        count = len(input_ids)
        assert image_input.shape[:3] == (count, 2, 3) and image_mask.shape == (count, 2) and image_mask.all()
        assert proprio.shape == (count, 20) and domain_id.dtype == torch.long and steps == 10
        given = torch.zeros(count, 30, 20)
        given[:, :, 0] = proprio[:, :1] + torch.arange(30) * 0.01
        given[:, :, 1] = image_input.mean(dim=(2, 3, 4))[:, 1:] + input_ids.sum(dim=1, keepdim=True)
        given[:, :, 2] = torch.randn(count, 30, 20)[:, :, 0] + domain_id[:, None]
        given[:, :, 3:9] = proprio[:, None, 3:9]
        given[:, :, 9] = 0.9
        return given
