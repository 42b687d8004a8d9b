"""starVLA's frameworks: QwenOFT, QwenGR00T, QwenPI, QwenFast (github.com/starVLA/starVLA)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies import norms, outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.noise import own_noise
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

ENDINGS = (".pt", ".safetensors")


class StarVLA(Policy):
    """Frames, resized to `size` x `size`, and the instruction in, chunks out, all observations together.

    `checkpoint` is one file of checkpoints/, or the folder around it, of whose files the last by name is taken.
    `cameras` in the order of training. `state_dim` 0: it was trained without state. `unnorm_key`, `gripper` as for
    OpenVLA. The noise of an episode is the same in every batch; the rest holds to rounding.

    Raises ConfigurationError for a path that is no such checkpoint, or where starVLA is missing.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        cameras: Sequence[str],
        state_dim: int = 0,
        unnorm_key: str | None = None,
        size: int = 224,
        bfloat16: bool = True,
        gripper: str = "as_is",
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._weights = _weights(checkpoint)
        self._folder = self._weights.parent.parent
        if not cameras:
            raise ConfigurationError("model.params.cameras: names no camera")
        found = norms.statistics(self._folder)
        self._key = norms.chosen(found, unnorm_key)
        self._dim = norms.action_dim(found, self._key)
        self._cameras = list(cameras)
        self._state_dim = state_dim
        self._size = size
        self._bfloat16 = bfloat16
        self._gripper = outside.check_gripper(gripper)
        self._model: Any = None
        state = {"state": Spec("state", state_dim, "any")} if state_dim else {}
        self.action_spec = outside.gives(self._dim)
        self.observation_spec = {**dict.fromkeys(self._cameras, RGB), **state, "language": LANGUAGE}

    def files(self) -> list[Path]:
        return [*sorted(p for p in self._folder.iterdir() if p.suffix in (".json", ".yaml")), self._weights]

    def load(self) -> None:
        """Load with starVLA's own server wrapper, which gives actions their units, on CUDA where there is one."""
        try:
            import torch
            from deployment.model_server.policy_wrapper import PolicyServerWrapper
        except ImportError as error:
            raise ConfigurationError(f"model=starvla needs starVLA: {error}") from error
        self._model = PolicyServerWrapper(
            str(self._weights),
            device="cuda" if torch.cuda.is_available() else "cpu",
            use_bf16=self._bfloat16,
            unnorm_key=self._key,
        )

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        import torch

        with torch.inference_mode(), own_noise(sessions):
            given = self._model.predict_action(
                examples=[self._example(seen) for seen in observations],
                unnorm_key=self._key,
                do_sample=False,
                use_ddim=True,
                num_ddim_steps=10,
            )
        return [outside.actions(chunk, self._dim, self._gripper) for chunk in given["actions"]]

    def _example(self, seen: Observation) -> dict[str, Any]:
        from PIL import Image

        frames = [Image.fromarray(seen["images"][camera]) for camera in self._cameras]
        shape = (self._size, self._size)
        small = [f if f.size == shape else f.resize(shape, Image.Resampling.BILINEAR) for f in frames]
        example = {"image": [np.asarray(frame) for frame in small], "lang": seen["task_description"]}
        if self._state_dim:
            example["state"] = np.asarray(seen["states"], np.float32)[None]
        return example


def _weights(checkpoint: str | None) -> Path:
    path = Path(checkpoint or "").expanduser()
    inside = sorted(p for p in (path / "checkpoints").glob("*") if p.suffix in ENDINGS) if checkpoint else []
    found = inside[-1] if inside else path
    if not checkpoint or not found.is_file() or found.suffix not in ENDINGS or found.parent.name != "checkpoints":
        raise ConfigurationError(
            f"model.checkpoint={checkpoint}: valid: a file .../checkpoints/*.pt or *.safetensors, the folder around it,"
            " hf://ORG/NAME@REVISION"
        )
    return found
