"""The surface of openvla-oft's own module at 213c5ff: names, arguments and results; its weights are not to be had."""

import os

import numpy as np
import torch


def _file(cfg, kind):
    found = [n for n in os.listdir(cfg.pretrained_checkpoint) if kind in n and "checkpoint" in n]
    assert len(found) == 1, f"Expected exactly 1 {kind} checkpoint but found {len(found)}"
    return found[0]


def get_action_head(cfg, llm_dim):
    assert cfg.use_l1_regression != cfg.use_diffusion
    return ("head", _file(cfg, "action_head"), llm_dim)


def get_proprio_projector(cfg, llm_dim, proprio_dim):
    return ("proprio", _file(cfg, "proprio_projector"), llm_dim, proprio_dim)


def get_noisy_action_projector(cfg, llm_dim):
    return ("noisy", _file(cfg, "noisy_action_projector"), llm_dim)


def get_vla_action(
    cfg,
    vla,
    processor,
    obs,
    task_label,
    action_head=None,
    proprio_projector=None,
    noisy_action_projector=None,
    use_film=False,
):
    """Eight actions: means of the images, the state's first, what was told, and noise where there is diffusion."""
    images = [obs["full_image"], *(obs[k] for k in obs if "wrist" in k)]
    assert len(images) == cfg.num_images_in_input == vla.vision_backbone.num_images_in_input
    assert action_head[0] == "head" and (proprio_projector is not None) == cfg.use_proprio
    assert not use_film and cfg.unnorm_key in vla.norm_stats and callable(processor)
    action = np.zeros(7)
    action[: len(images)] = [image.mean() for image in images]
    action[3] = len(task_label)
    if cfg.use_proprio:
        action[4] = obs["state"][0]
        obs["state"] = None  # it writes into what it is given
    if noisy_action_projector is not None:
        action[5] = float(torch.randn((1, 8, 7))[0, 0, 0])
    action[6] = 0.9
    return [action + np.eye(7)[0] * i for i in range(8)]
