"""OpenVLA, from a checkpoint's own code by transformers (arXiv:2406.09246)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies import norms, outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.frames import cropped, shrunk
from vlaeval_hpc.wire.specs import LANGUAGE, RGB

SIZE = 224
PROMPT = "In: What action should the robot take to {instruction}?\nOut:"


class OpenVLA(Policy):
    """One frame and the instruction in, one action out; one observation after the other, as its code takes no batch.

    `unnorm_key` names the dataset whose statistics give actions their units, null: the only one of the checkpoint.
    `crop`: the share of the area in the middle that is looked at, for checkpoints trained on random crops; null: all.
    `prompt` has {instruction}, which is put in lower case. `gripper`: see outside.GRIPPERS. `dtype` is torch's name,
    null: bfloat16 on CUDA, else float32. `attention` is transformers' attn_implementation. Runs the checkpoint's code.

    Raises ConfigurationError for a folder that is no such checkpoint.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        camera: str,
        unnorm_key: str | None = None,
        crop: float | None = 0.9,
        prompt: str = PROMPT,
        gripper: str = "as_is",
        dtype: str | None = None,
        attention: str | None = None,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._folder = norms.checkpoint_folder(checkpoint)
        if crop is not None and not 0 < crop <= 1:
            raise ConfigurationError(f"model.params.crop={crop}: valid: above 0, up to 1, or null")
        if "{instruction}" not in prompt:
            raise ConfigurationError(f"model.params.prompt={prompt!r}: valid: a text with {{instruction}}")
        self._statistics = norms.statistics(self._folder)
        self._key = norms.chosen(self._statistics, unnorm_key)
        self._dim = norms.action_dim(self._statistics, self._key)
        self._camera = camera
        self._crop = crop
        self._prompt = prompt
        self._gripper = outside.check_gripper(gripper)
        self._dtype = dtype
        self._attention = attention
        self._model: Any = None
        self._processor: Any = None
        self.action_spec = outside.gives(self._dim)
        self.observation_spec = {camera: RGB, "language": LANGUAGE}

    def files(self) -> list[Path]:
        return norms.checkpoint_files(self._folder)

    def load(self) -> None:
        """Load with transformers. Raises ConfigurationError where it is not installed."""
        self._processor, self._model = load_remote_code(self._folder, self._dtype, self._attention)
        self._model.norm_stats = self._statistics

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [self._one(seen) for seen in observations]

    def _one(self, seen: Observation) -> NDArray[np.floating[Any]]:
        import torch
        from PIL import Image

        frame = shrunk(seen["images"][self._camera], SIZE)
        frame = frame if self._crop is None else cropped(frame, self._crop)
        words = self._prompt.replace("{instruction}", seen["task_description"].lower())
        inputs = self._processor(words, Image.fromarray(frame)).to(self._model.device, dtype=self._model.dtype)
        with torch.inference_mode():
            action = self._model.predict_action(**inputs, unnorm_key=self._key, do_sample=False)
        return outside.actions(action, self._dim, self._gripper)


def load_remote_code(folder: Path, dtype: str | None, attention: str | None) -> tuple[Any, Any]:
    """(processor, model) of a folder that holds its own code, on CUDA where there is one.

    Raises ConfigurationError where transformers is missing, or a name is none of its own.
    """
    try:
        import torch
        from transformers import AutoModelForVision2Seq, AutoProcessor
    except ImportError as error:
        raise ConfigurationError(f"OpenVLA needs transformers with AutoModelForVision2Seq (4.x): {error}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = getattr(torch, dtype or ("bfloat16" if device == "cuda" else "float32"), None)
    if not isinstance(chosen, torch.dtype):
        raise ConfigurationError(f"model.params.dtype={dtype}: valid: bfloat16, float16, float32")
    more = {"attn_implementation": attention} if attention else {}
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForVision2Seq.from_pretrained(
        folder, torch_dtype=chosen, low_cpu_mem_usage=True, trust_remote_code=True, **more
    )
    return processor, model.to(device).eval()
