"""OpenVLA's surface, `predict_action` and all that its callers reach for, over two small layers."""

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_tiny import TinyConfig


class TinyBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.eye = nn.Linear(3, 7)
        self.num_images_in_input = 1

    def set_num_images_in_input(self, count):
        self.num_images_in_input = count


class TinyForActionPrediction(PreTrainedModel):
    config_class = TinyConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.norm_stats = config.norm_stats
        self.vision_backbone = TinyBackbone()
        self.words = nn.Embedding(config.vocab_size, 7)
        self.llm_dim = 7
        self.post_init()

    def predict_action(self, input_ids=None, unnorm_key=None, pixel_values=None, attention_mask=None, do_sample=True):
        assert input_ids.shape[0] == 1 and not do_sample
        assert pixel_values.dtype == self.dtype and attention_mask.shape == input_ids.shape
        seen = self.vision_backbone.eye(pixel_values.mean(dim=(2, 3)))
        normalized = torch.tanh(seen + self.words(input_ids).sum(dim=1))[0].float().numpy()
        stats = self.norm_stats[unnorm_key]["action"]
        mask = np.array(stats.get("mask", np.ones(7, bool)))
        low, high = np.array(stats["q01"]), np.array(stats["q99"])
        return np.where(mask, 0.5 * (normalized + 1) * (high - low) + low, normalized)
