"""The surface of openpi's own module at 15a9616: names, arguments and results; its weights are not to be had."""

import types

import numpy as np


class Policy:
    def __init__(self, model):
        self._model = model

    def infer(self, obs: dict, *, noise: np.ndarray | None = None) -> dict:
        """Ten actions (10, 7): what was told, and the first of the noise."""
        wanted = (self._model.action_horizon, self._model.action_dim)
        fast = self._model.model_type.value == "pi0_fast"
        assert noise is None if fast else (noise.shape, noise.dtype) == (wanted, np.float32)
        assert sorted(obs) == ["observation/image", "observation/state", "observation/wrist_image", "prompt"]
        assert all(obs[key].shape == (224, 224, 3) and obs[key].dtype == np.uint8 for key in list(obs)[:2])
        told = [obs["observation/image"].mean(), obs["observation/wrist_image"].mean(), obs["observation/state"][7]]
        told += [len(obs["prompt"]), 0.0 if noise is None else noise[0, 0], 0.0, -1.0]
        return {"actions": np.tile(told, (10, 1)), "state": obs["observation/state"], "policy_timing": {}}


def create_trained_policy(
    train_config,
    checkpoint_dir,
    *,
    repack_transforms=None,
    sample_kwargs=None,
    default_prompt=None,
    norm_stats=None,
    pytorch_device=None,
):
    assert isinstance(train_config, types.SimpleNamespace) and checkpoint_dir
    return Policy(train_config.model)
