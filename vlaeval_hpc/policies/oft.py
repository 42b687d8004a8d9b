"""OpenVLA-OFT, by its own package (github.com/moojink/openvla-oft, arXiv:2502.19645)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies import norms, outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.noise import own_noise
from vlaeval_hpc.policies.openvla import load_remote_code
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

HEADS = ("l1", "diffusion")


class OFT(Policy):
    """Frames, state and the instruction in, a chunk out; one observation after the other, as its code takes no batch.

    `cameras`: the main one first, then those of the wrist. `state_dim` 0: it was trained without. `head`: l1 or
    diffusion, whose steps `diffusion_steps` are. `unnorm_key`, `gripper` as for OpenVLA. `crop`: look at nine tenths in
    the middle, for checkpoints trained on random crops. The chunk's length is the package's constant for the robot,
    which it takes from the command line: LIBERO's, unless that names aloha or bridge and not libero.

    Raises ConfigurationError for a folder that is no such checkpoint.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        cameras: Sequence[str],
        state_dim: int = 0,
        unnorm_key: str | None = None,
        head: str = "l1",
        diffusion_steps: int = 50,
        crop: bool = True,
        gripper: str = "as_is",
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._folder = norms.checkpoint_folder(checkpoint)
        if head not in HEADS:
            raise unknown("model.params.head", head, HEADS)
        if not cameras:
            raise ConfigurationError("model.params.cameras: names no camera")
        self._statistics = norms.statistics(self._folder)
        key = norms.chosen(self._statistics, unnorm_key)
        self._dim = norms.action_dim(self._statistics, key)
        self._cameras = list(cameras)
        self._state_dim = state_dim
        self._gripper = outside.check_gripper(gripper)
        self._settings = SimpleNamespace(  # as the package's own evaluation names them
            model_family="openvla",
            pretrained_checkpoint=str(self._folder),
            use_l1_regression=head == "l1",
            use_diffusion=head == "diffusion",
            num_diffusion_steps_train=diffusion_steps,
            num_diffusion_steps_inference=diffusion_steps,
            use_film=False,
            num_images_in_input=len(self._cameras),
            use_proprio=state_dim > 0,
            center_crop=crop,
            unnorm_key=key,
            load_in_8bit=False,
            load_in_4bit=False,
        )
        self._parts: dict[str, Any] = {}
        state = {"state": Spec("state", state_dim, "any")} if state_dim else {}
        self.action_spec = outside.gives(self._dim)
        self.observation_spec = {**dict.fromkeys(self._cameras, RGB), **state, "language": LANGUAGE}

    def files(self) -> list[Path]:
        return norms.checkpoint_files(self._folder)

    def load(self) -> None:
        """Load the model, its head and projectors. Raises ConfigurationError where the package is missing."""
        try:
            from experiments.robot import openvla_utils as package
        except ImportError as error:
            raise ConfigurationError(f"model=oft needs the package openvla-oft: {error}") from error
        settings = self._settings
        # Not its get_vla, which writes code and settings into a checkpoint that lies on disk.
        processor, model = load_remote_code(self._folder, "bfloat16", None)
        model.vision_backbone.set_num_images_in_input(settings.num_images_in_input)
        model.norm_stats = self._statistics
        self._parts = {"vla": model, "processor": processor, "action_head": None, "proprio_projector": None}
        self._parts["action_head"] = package.get_action_head(settings, model.llm_dim)
        if settings.use_proprio:
            self._parts["proprio_projector"] = package.get_proprio_projector(settings, model.llm_dim, self._state_dim)
        if settings.use_diffusion:
            self._parts["noisy_action_projector"] = package.get_noisy_action_projector(settings, model.llm_dim)
        self._act = package.get_vla_action

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [self._one(seen, session) for seen, session in zip(observations, sessions, strict=True)]

    def _one(self, seen: Observation, session: Session) -> NDArray[np.floating[Any]]:
        frames = [np.ascontiguousarray(seen["images"][camera]) for camera in self._cameras]
        # It takes whatever has "wrist" in its name for a further image, in this order.
        told: dict[str, Any] = {"full_image": frames[0]}
        told.update({f"wrist_image_{i}": frame for i, frame in enumerate(frames[1:])})
        if self._state_dim:
            told["state"] = np.array(seen["states"])
        with own_noise([session]):
            chunk = self._act(self._settings, obs=told, task_label=seen["task_description"], **self._parts)
        return outside.actions(np.stack(chunk), self._dim, self._gripper)
