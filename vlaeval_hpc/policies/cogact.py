"""CogACT, by its own package (github.com/microsoft/CogACT, arXiv:2411.19650)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies import norms, outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.noise import own_noise
from vlaeval_hpc.wire.specs import LANGUAGE, RGB

SIZES = ("DiT-S", "DiT-B", "DiT-L")


class CogACT(Policy):
    """One frame and the instruction in, a chunk of `window` + 1 actions out, all observations together.

    `size` is that of the action model: DiT-S, DiT-B, DiT-L for CogACT-Small, -Base, -Large. `guidance` is the
    classifier-free guidance's scale, `steps` those of DDIM. `unnorm_key`, `gripper` as for OpenVLA. The noise of an
    episode is the same in every batch; the rest holds to rounding.

    Raises ConfigurationError for a folder that is no such checkpoint, or where the package or a GPU is missing.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        camera: str,
        unnorm_key: str | None = None,
        size: str = "DiT-B",
        window: int = 15,
        guidance: float = 1.5,
        steps: int = 10,
        gripper: str = "as_is",
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._folder = norms.checkpoint_folder(checkpoint)
        weights = sorted((self._folder / "checkpoints").glob("*.pt"))
        if len(weights) != 1:
            raise ConfigurationError(f"model.checkpoint={checkpoint}: {len(weights)} checkpoints/*.pt: valid: one")
        if size not in SIZES:
            raise unknown("model.params.size", size, SIZES)
        found = norms.statistics(self._folder)
        self._key = norms.chosen(found, unnorm_key)
        self._dim = norms.action_dim(found, self._key)
        self._weights = weights[0]
        self._camera = camera
        self._size = size
        self._window = window
        self._sampling = {"cfg_scale": guidance, "use_ddim": True, "num_ddim_steps": steps, "do_sample": False}
        self._gripper = outside.check_gripper(gripper)
        self._model: Any = None
        self.action_spec = outside.gives(self._dim)
        self.observation_spec = {camera: RGB, "language": LANGUAGE}

    def files(self) -> list[Path]:
        return norms.checkpoint_files(self._folder)

    def load(self) -> None:
        """Load with the package, in bfloat16 but for the action model, on CUDA: its code runs nowhere else."""
        try:
            import torch
            from vla import load_vla
        except ImportError as error:
            raise ConfigurationError(f"model=cogact needs the package CogACT: {error}") from error
        if not torch.cuda.is_available():
            raise ConfigurationError("model=cogact needs a GPU")
        self._model = load_vla(
            str(self._weights),
            load_for_training=False,
            action_model_type=self._size,
            future_action_window_size=self._window,
            action_dim=self._dim,
        )
        self._model.vlm = self._model.vlm.to(torch.bfloat16)
        self._model.to("cuda").eval()

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        from PIL import Image

        frames = [Image.fromarray(seen["images"][self._camera]) for seen in observations]
        told = [seen["task_description"] for seen in observations]
        with own_noise(sessions):
            chunks, _ = self._model.predict_action_batch(frames, told, unnorm_key=self._key, **self._sampling)
        return [outside.actions(chunk, self._dim, self._gripper) for chunk in chunks]
