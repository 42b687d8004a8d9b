"""OpenVLA's configuration, of a model with next to no weights: code that lies in a checkpoint, as OpenVLA's does."""

from transformers import PretrainedConfig


class TinyConfig(PretrainedConfig):
    model_type = "openvla"

    def __init__(self, norm_stats=None, n_action_bins=256, vocab_size=64, **kwargs):
        self.norm_stats = norm_stats
        self.n_action_bins = n_action_bins
        self.vocab_size = vocab_size
        super().__init__(**kwargs)
