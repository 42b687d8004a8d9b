"""DB-CogACT, by Dexbotic (github.com/dexmal/dexbotic)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies import norms, outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.noise import own_noise
from vlaeval_hpc.wire.specs import LANGUAGE, RGB

PROMPT = "What action should the robot take to {instruction}?"


class DBCogACT(Policy):
    """Frames of `cameras` and the instruction in, a chunk of `dim` numbers an action out, one observation at a time.

    norm_stats.json of the checkpoint gives the actions their units. `chunks`: how many actions of a chunk are carried
    out, by the task's suite, a variant's (libero_goal_swap) too; all where it is not named. `guidance` is the
    classifier-free guidance's scale, `steps` those of DDIM. `prompt` has {instruction}. `gripper`: see
    outside.GRIPPERS. Each episode's noise is its own.

    Raises ConfigurationError for a folder that is no such checkpoint, or where Dexbotic is missing.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        cameras: Sequence[str],
        dim: int = 7,
        guidance: float = 1.5,
        steps: int = 10,
        chunks: dict[str, int] | None = None,
        prompt: str = PROMPT,
        gripper: str = "as_is",
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._folder = norms.checkpoint_folder(checkpoint)
        try:
            found = json.loads((self._folder / "norm_stats.json").read_text())
            self._norms = found.get("norm_stats", found)["default"]
        except (OSError, ValueError, LookupError, AttributeError):
            raise ConfigurationError(f"model.checkpoint={checkpoint}: no norm_stats.json with a 'default'") from None
        if not cameras:
            raise ConfigurationError("model.params.cameras: names no camera")
        if "{instruction}" not in prompt:
            raise ConfigurationError(f"model.params.prompt={prompt!r}: valid: a text with {{instruction}}")
        self._cameras = list(cameras)
        self._dim = dim
        self._sampling = {"cfg_scale": guidance, "num_ddim_steps": steps, "action_norms": self._norms}
        self._chunks = chunks or {}
        self._prompt = prompt
        self._gripper = outside.check_gripper(gripper)
        self._model: Any = None
        self.action_spec = outside.gives(dim)
        self.observation_spec = {**dict.fromkeys(self._cameras, RGB), "language": LANGUAGE}

    def files(self) -> list[Path]:
        return norms.checkpoint_files(self._folder)

    def load(self) -> None:
        """Load with Dexbotic, in bfloat16, on CUDA where there is one."""
        try:
            import torch
            from dexbotic.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
            from dexbotic.model.cogact.cogact_arch import CogACTForCausalLM
            from dexbotic.tokenization.conversation import conv_templates
            from dexbotic.tokenization.tokenization import tokenizer_image_token
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ConfigurationError(f"model=db_cogact needs Dexbotic: {error}") from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = CogACTForCausalLM.from_pretrained(self._folder, torch_dtype=torch.bfloat16, trust_remote_code=True)
        self._model = model.to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(self._folder)

        def tokens(words: str) -> Any:
            turns = conv_templates[model.config.chat_template].copy()
            turns.append_message(turns.roles[0], f"{DEFAULT_IMAGE_TOKEN}\n{words}")
            turns.append_message(turns.roles[1], " ")
            found = tokenizer_image_token(turns.get_prompt(), tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt")
            return found[None].to(device)

        self._tokens = tokens

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        return [self._one(seen, session) for seen, session in zip(observations, sessions, strict=True)]

    def _one(self, seen: Observation, session: Session) -> NDArray[np.floating[Any]]:
        import torch
        from PIL import Image

        frames = self._model.process_images([Image.fromarray(seen["images"][camera]) for camera in self._cameras])
        frames = frames.to(dtype=self._model.dtype)
        frames = frames[None] if len(self._cameras) > 1 else frames
        told = self._tokens(self._prompt.replace("{instruction}", seen["task_description"]))
        with torch.inference_mode(), own_noise([session]):
            chunk = self._model.inference_action(told, frames, dict(self._sampling))
        return outside.actions(chunk, self._dim, self._gripper)[: self._count(str(session.task.get("suite")))]

    def _count(self, suite: str) -> int | None:
        """Of the suite, or of the one that it is a variant of."""
        known = [name for name in self._chunks if suite == name or suite.startswith(f"{name}_")]
        return self._chunks[max(known, key=len)] if known else None
