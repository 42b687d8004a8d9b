"""X-VLA, from a checkpoint's own code by transformers (arXiv:2510.10274)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies import norms, outside
from vlaeval_hpc.policies.act import XVLA_ACTION, XVLA_STATE, ee6d_actions
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.policies.noise import own_noise
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

Actions = NDArray[np.floating[Any]]

ARM = 10  # of the 20 numbers: position 3, rotation 6, gripper 1


class XVLA(Policy):
    """Frames, the state and the instruction in; out where the hand goes: (k, 7) in the controller's frame.

    `domain` is the data set's number: 3 for LIBERO. `state_dim` is the length of the benchmark's state, which begins
    with position and axis-angle, or Euler angles with `euler`; `state_turn` (rad) turns its hand's frame about z into
    the controller's. It is seen at an episode's start; later the policy goes on from its own last action, as its
    evaluation does. `turn` names cameras to turn by 180 degrees. `steps` are those of the flow. `by_rows`, `closed`: as
    act.ee6d_actions reads what the checkpoint gives. In float32, as published; runs the checkpoint's code.

    Observations whose inputs have one shape go through the model together. The noise of an episode is the same in every
    batch; the rest holds to rounding. Raises ConfigurationError for a folder that is no checkpoint.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        cameras: Sequence[str],
        domain: int,
        state_dim: int,
        state_turn: float = 0.0,
        euler: bool = False,
        turn: Sequence[str] = (),
        steps: int = 10,
        by_rows: bool = False,
        closed: float = 0.5,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        self._folder = norms.checkpoint_folder(checkpoint)
        if not cameras:
            raise ConfigurationError("model.params.cameras: names no camera")
        if state_dim < 6:
            raise ConfigurationError(f"model.params.state_dim={state_dim}: valid: 6 and more, position and axis-angle")
        self._cameras = list(cameras)
        self._domain = domain
        self._state_turn = state_turn
        self._euler = euler
        self._by_rows = by_rows
        self._closed = closed
        self._turn = frozenset(turn)
        self._steps = steps
        self._model: Any = None
        self._processor: Any = None
        self.action_spec = XVLA_ACTION
        self.observation_spec = {
            **dict.fromkeys(self._cameras, RGB),
            "state": Spec("state", state_dim, "any"),
            "language": LANGUAGE,
        }

    def files(self) -> list[Path]:
        return norms.checkpoint_files(self._folder)

    def load(self) -> None:
        """Load with transformers, on CUDA where there is one. Raises ConfigurationError where it is not installed."""
        try:
            import torch
            from transformers import AutoModel, AutoProcessor
        except ImportError as error:
            raise ConfigurationError(f"model=xvla needs transformers: {error}") from error
        self._processor = AutoProcessor.from_pretrained(self._folder, trust_remote_code=True)
        model = AutoModel.from_pretrained(
            self._folder, trust_remote_code=True, torch_dtype=torch.float32, attn_implementation="eager"
        )
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Actions]:
        import torch

        told = [self._told(seen, session) for seen, session in zip(observations, sessions, strict=True)]
        groups: dict[Any, list[int]] = {}
        for i, inputs in enumerate(told):
            groups.setdefault(tuple(inputs[key].shape for key in sorted(inputs)), []).append(i)
        raw: dict[int, Actions] = {}
        for members in groups.values():
            batch = {key: torch.cat([told[i][key] for i in members]).to(self._model.device) for key in told[members[0]]}
            with torch.inference_mode(), own_noise([sessions[i] for i in members]):
                given = self._model.generate_actions(**batch, steps=self._steps)
            raw.update(zip(members, given.float().cpu().numpy(), strict=True))
        for i, session in enumerate(sessions):
            session.memory["last"] = raw[i][-1]
        return [outside.actions(ee6d_actions(raw[i], self._closed, self._by_rows), 7) for i in range(len(sessions))]

    def _told(self, seen: Observation, session: Session) -> dict[str, Any]:
        import torch
        from PIL import Image

        frames = [seen["images"][camera] for camera in self._cameras]
        turned = [f[::-1, ::-1] if c in self._turn else f for f, c in zip(frames, self._cameras, strict=True)]
        pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in turned]
        inputs = dict(self._processor(images=pictures, language_instruction=seen["task_description"]))
        proprio = np.zeros(XVLA_STATE, np.float32)
        if "last" in session.memory:
            proprio[:ARM] = session.memory["last"][:ARM]
        else:
            proprio[:9] = _ee6d(np.asarray(seen["states"], np.float64), self._state_turn, self._euler, self._by_rows)
        inputs["proprio"] = torch.from_numpy(proprio)[None]
        inputs["domain_id"] = torch.tensor([self._domain])
        return inputs


def _ee6d(state: Actions, turn: float, euler: bool = False, by_rows: bool = False) -> Actions:
    """(9,): position, and the first two columns of the rotation, which is turned about its own z first."""
    if euler:
        matrix: Actions = np.eye(3)
        for axis, angle in zip(np.eye(3), state[3:6], strict=True):  # about x, then the world's y, then its z
            matrix = _rotation(axis * angle) @ matrix
    else:
        matrix = _rotation(state[3:6])
    own = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)], [0, 0]])
    columns = matrix @ own
    return np.concatenate([state[:3], columns.ravel() if by_rows else columns.T.ravel()])


def _rotation(vector: Actions) -> Actions:
    """Rodrigues' matrix (3, 3) of a rotation vector."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
