"""LeRobot's policies, in its own library: ACT, Diffusion, VQ-BeT, SmolVLA, pi0, pi0-FAST, pi0.5, X-VLA, GR00T."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies import outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.noise import own_noise
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

Actions = NDArray[np.floating[Any]]

HISTORY = ("diffusion", "vqbet")
"""Types that see the last n_obs_steps steps."""
WORDLESS = ("act", *HISTORY)
TYPES = (*WORDLESS, "groot", "pi0", "pi0_fast", "pi05", "smolvla", "wall_x", "xvla")
RESIZE = ("resize_imgs_with_padding", "image_resolution", "image_size")
"""Settings of policies that bring frames to their size themselves."""
IMAGES, STATE = "observation.images", "observation.state"


class LeRobot(Policy):
    """A folder that LeRobot's `save_pretrained` wrote: config.json names the type, the processors normalise.

    `cameras` maps the checkpoint's image features to the benchmark's cameras, null to none where the policy takes
    fewer; left out, they have the same names. `backbone` replaces the hub name of the language model whose config and
    tokenizer SmolVLA and the pi family look up: a folder, where there is no network. `device` null: CUDA where there is
    one. A chunk has the checkpoint's n_action_steps. Types with a history (n_obs_steps) also look at the steps before
    a chunk's end that the next chunk needs. torch.compile is not used.

    The noise of an episode is the same in every batch; on a GPU the rest holds to rounding. Raises ConfigurationError
    for a folder that is no such checkpoint, or of another type.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        cameras: dict[str, str | None] | None = None,
        backbone: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._folder = Path(checkpoint or "").expanduser()
        config = _read(self._folder, "config.json", checkpoint)
        self._type = str(config.get("type"))
        if self._type not in TYPES:
            raise unknown(f"type of policy in {self._folder}/config.json", self._type, TYPES)
        _read(self._folder, "policy_preprocessor.json", checkpoint)
        inputs = config.get("input_features") or {}
        self._sizes = {key: tuple(f["shape"]) for key, f in inputs.items() if _is_image(key, f)}
        self._resizes = any(config.get(key) for key in RESIZE)
        self._cameras = self._named(cameras)
        states = [key for key, feature in inputs.items() if feature["type"] in ("STATE", "ENV")]
        if len(states) > 1:
            raise ConfigurationError(f"model.checkpoint={checkpoint}: it wants {' and '.join(states)}: one is valid")
        self._state = states[0] if states else None
        self._history = int(config.get("n_obs_steps") or 1) if self._type in HISTORY else 0
        self._backbone = backbone
        self._device = device
        self._policy: Any = None
        state = {"state": Spec("state", inputs[self._state]["shape"][0], "any")} if self._state else {}
        words = {} if self._type in WORDLESS else {"language": LANGUAGE}
        self.observation_spec = {**dict.fromkeys(self._cameras.values(), RGB), **state, **words}
        self.action_spec = outside.gives(int(config["output_features"]["action"]["shape"][0]))

    def files(self) -> list[Path]:
        return sorted(p for p in self._folder.iterdir() if p.suffix in (".json", ".safetensors"))

    def load(self) -> None:
        """Load with LeRobot. Raises ConfigurationError where it is not installed."""
        try:
            import torch
            from lerobot.configs.policies import PreTrainedConfig
            from lerobot.policies.factory import get_policy_class, make_pre_post_processors
        except ImportError as error:
            raise ConfigurationError(f"model=lerobot needs LeRobot 0.4: {error}") from error

        config: Any = PreTrainedConfig.from_pretrained(self._folder)
        config.device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        if hasattr(config, "compile_model"):
            config.compile_model = False  # compiled code draws its own noise
        changed = {"device_processor": {"device": config.device}}
        if self._backbone:
            if hasattr(config, "vlm_model_name"):
                config.vlm_model_name = self._backbone
            changed["tokenizer_processor"] = {"tokenizer_name": self._backbone}
        self._policy = get_policy_class(self._type).from_pretrained(self._folder, config=config)
        self._before, self._after = make_pre_post_processors(
            config, pretrained_path=str(self._folder), preprocessor_overrides=changed
        )

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Actions]:
        import torch

        config = self._policy.config
        with torch.inference_mode():
            batch = self._before(self._batch(observations))
            if self._history:
                return self._with_history(batch, sessions)
            self._policy.reset()
            chunks = self._chunks(batch, sessions)
            if getattr(config, "temporal_ensemble_coeff", None) is not None:
                chunks = torch.stack([self._ensembled(c, s) for c, s in zip(chunks, sessions, strict=True)])
            return list(self._actions(chunks[:, : getattr(config, "n_action_steps", None)]))

    def _named(self, cameras: dict[str, str | None] | None) -> dict[str, str]:
        """Feature -> camera."""
        if cameras is None:
            return {key: key.rpartition(".")[2] for key in self._sizes}
        for key in cameras:
            if key not in self._sizes:
                raise unknown("image of model.params.cameras", key, self._sizes)
        missing = [key for key in self._sizes if key not in cameras]
        if missing:
            raise ConfigurationError(f"model.params.cameras: no camera for {missing[0]}: valid: a camera, or null")
        return {key: camera for key, camera in cameras.items() if camera}

    def _batch(self, observations: list[Observation]) -> dict[str, Any]:
        """As LeRobot's own evaluation has it: frames (n, 3, h, w) in [0, 1], states (n, d), float32."""
        import torch

        batch: dict[str, Any] = {}
        for key, camera in self._cameras.items():
            frames = np.stack([seen["images"][camera] for seen in observations])
            if not self._resizes and frames.shape[1:3] != self._sizes[key][1:]:
                raise ValueError(f"{camera} is {frames.shape[1:3]}, {key} of the checkpoint {self._sizes[key][1:]}")
            batch[key] = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()).float() / 255
        if self._state:
            batch[self._state] = torch.from_numpy(np.stack([seen["states"] for seen in observations])).float()
        batch["task"] = [seen.get("task_description", "") for seen in observations]
        return batch

    def _chunks(self, batch: dict[str, Any], sessions: list[Session]) -> Any:
        """(n, k, dim), normalised."""
        import torch

        config = self._policy.config
        amp = torch.autocast(torch.device(config.device).type) if config.use_amp else nullcontext()
        with own_noise(sessions), amp:
            return self._policy.predict_action_chunk(batch)

    def _actions(self, chunks: Any) -> Actions:
        """(n, k, dim), in the benchmark's units."""
        flat = self._after(chunks.reshape(-1, chunks.shape[-1]))  # processors are made for an action a row
        return np.asarray(flat.float().cpu().numpy().reshape(*chunks.shape[:2], -1))

    def _ensembled(self, chunk: Any, session: Session) -> Any:
        """(1, dim) of a chunk (k, dim): ACT's own average over the chunks of the episode so far."""
        from lerobot.policies.act.modeling_act import ACTTemporalEnsembler

        config = self._policy.config
        if "ensembler" not in session.memory:
            session.memory["ensembler"] = ACTTemporalEnsembler(config.temporal_ensemble_coeff, config.chunk_size)
        return session.memory["ensembler"].update(chunk[None])

    def _with_history(self, batch: dict[str, Any], sessions: list[Session]) -> list[Actions]:
        features = [key for key in (*self._cameras, self._state) if key]
        for i, session in enumerate(sessions):
            row = {key: batch[key][i] for key in features}
            session.memory["seen"] = [*session.memory.get("seen", []), (session.step, row)][-self._history :]
        new = [session for session in sessions if not len(_planned(session))]
        if new:
            plans = self._actions(self._chunks(self._filled(new), new))
            for session, plan in zip(new, plans, strict=True):
                session.memory["plan"] = (session.step, plan)
        answers = []
        for session in sessions:
            left = _planned(session)
            # Up to the first of the steps that the next chunk has to have seen.
            answers.append(left[: max(len(left) - self._history + 1, 1)])
        return answers

    def _filled(self, sessions: list[Session]) -> dict[str, Any]:
        """The newest observations as a batch, with all of them in the policy's queues."""
        import torch
        from lerobot.policies.utils import populate_queues

        self._policy.reset()
        batch: dict[str, Any] = {}
        for back in reversed(range(self._history)):
            rows = [_seen(session, session.step - back) for session in sessions]
            batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
            if self._cameras:
                batch[IMAGES] = torch.stack([batch[key] for key in self._policy.config.image_features], dim=-4)
            self._policy._queues = populate_queues(self._policy._queues, batch)
        return batch


def _read(folder: Path, name: str, checkpoint: str | None) -> dict[str, Any]:
    if not (folder / name).is_file():
        hint = "LeRobot's migrate_policy_normalization makes it of an older checkpoint; " if "pre" in name else ""
        raise ConfigurationError(
            f"model.checkpoint={checkpoint}: {name} is missing: {hint}valid: a folder that LeRobot 0.4 saved,"
            " hf://ORG/NAME@REVISION"
        )
    try:
        found = json.loads((folder / name).read_text())
    except ValueError as error:
        raise ConfigurationError(f"{folder / name}: {error}") from error
    return found if isinstance(found, dict) else {}


def _is_image(key: str, feature: dict[str, Any]) -> bool:
    return feature["type"] == "VISUAL" and ".empty_camera_" not in key  # those are filled in by the policy


def _planned(session: Session) -> Actions:
    """What is left of the episode's newest chunk."""
    begin, plan = session.memory.get("plan", (0, np.zeros((0, 0))))
    left: Actions = plan[session.step - begin :]
    return left


def _seen(session: Session, step: int) -> dict[str, Any]:
    """What the session saw at a step; before its first, the first."""
    seen: list[tuple[int, dict[str, Any]]] = session.memory["seen"]
    return next((row for at, row in reversed(seen) if at <= step), seen[0][1])
