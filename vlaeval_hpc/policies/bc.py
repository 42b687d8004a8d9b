"""A small policy for Meta-World's first five tasks, cloned from the scripted experts by scripts/train_bc.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import LANGUAGE, Spec

Array = NDArray[np.floating[Any]]

STATE_DIM = 39
ACTION_DIM = 4
HIDDEN = 256
_CHECKPOINTS = Path(__file__).parent / "bc_checkpoints"


@dataclass(frozen=True)
class Network:
    """An MLP over the normalised state and the words of the instruction.

    `mean`, `std` (39,) float32; `vocabulary` V words; `layers` three pairs of a weight (in, out) and a bias (out,),
    float32: 39 + V -> 256 -> 256 -> 4, ReLU between, tanh at the end.
    """

    mean: Array
    std: Array
    vocabulary: tuple[str, ...]
    layers: tuple[tuple[Array, Array], ...]

    def features(self, states: Array, instruction: str) -> Array:
        """(..., 39) states in the simulator's units -> (..., 39 + V) float32; unknown words are left out."""
        # Beyond five standard deviations lies nothing that training saw: an outlier must not drown the rest.
        scaled = np.clip((states.astype(np.float32) - self.mean) / self.std, -5, 5)
        told = words(instruction)
        bag = np.array([word in told for word in self.vocabulary], dtype=np.float32)
        return np.concatenate([scaled, np.broadcast_to(bag, (*scaled.shape[:-1], len(bag)))], axis=-1)

    def forward(self, features: Array) -> list[Array]:
        """(..., 39 + V) features -> what each layer gives, the last (..., 4) actions in [-1, 1]; float32."""
        outputs = []
        x = features
        for i, (weight, bias) in enumerate(self.layers):
            # Not BLAS, which adds in an order that depends on the number of its threads, and so on the node.
            x = np.einsum("...i,ij->...j", x, weight) + bias
            x = np.tanh(x) if i == len(self.layers) - 1 else np.maximum(x, 0)
            outputs.append(x)
        return outputs

    def save(self, path: Path) -> None:
        """Write an .npz with every number as float16."""
        arrays = {"mean": self.mean, "std": self.std}
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"w{i}": weight, f"b{i}": bias}
        halves: dict[str, Any] = {name: array.astype(np.float16) for name, array in arrays.items()}
        np.savez(path, vocabulary=np.array(self.vocabulary), **halves)

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read what `save` wrote. Raises ConfigurationError for any other file; nothing is unpickled."""
        try:
            with np.load(path, allow_pickle=False) as file:
                vocabulary = tuple(str(word) for word in file["vocabulary"])
                sizes = (STATE_DIM + len(vocabulary), HIDDEN, HIDDEN, ACTION_DIM)
                mean, std = (_numbers(file, name, (STATE_DIM,)) for name in ("mean", "std"))
                layers = tuple(
                    (_numbers(file, f"w{i}", sizes[i : i + 2]), _numbers(file, f"b{i}", sizes[i + 1 : i + 2]))
                    for i in range(len(sizes) - 1)
                )
        except Exception as e:  # zipfile, zlib and numpy raise a dozen kinds over a broken file
            raise ConfigurationError(f"{path} is not a checkpoint of bc: {type(e).__name__}: {e}") from e
        return cls(mean, std, vocabulary, layers)


def words(instruction: str) -> set[str]:
    """The distinct words, lower-case, without punctuation."""
    return set(re.findall(r"[a-z]+", instruction.lower()))


def shipped() -> dict[int, Path]:
    """The checkpoints in the package by training step."""
    return {int(path.stem.removeprefix("step-")): path for path in sorted(_CHECKPOINTS.glob("step-*.npz"))}


class BC(Policy):
    """Behaviour cloning of Meta-World's experts for the suite bc5: float32, one action at a time, numpy only.

    `checkpoint` is the path of an .npz or the training step of a checkpoint in the package. Raises
    ConfigurationError where there is none.
    """

    action_spec = {
        "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
        "gripper": Spec("gripper", 1, "continuous_close_positive", (-1.0, 1.0)),
    }
    observation_spec = {"state": Spec("state", STATE_DIM, "metaworld_obs39"), "language": LANGUAGE}
    network: Network

    def __init__(self, *, checkpoint: str | int | None) -> None:
        super().__init__(checkpoint=checkpoint)
        self.path = _find("" if checkpoint is None else str(checkpoint))

    def files(self) -> list[Path]:
        return [self.path]

    def load(self) -> None:
        """Read the checkpoint. Raises ConfigurationError where the file is none."""
        self.network = Network.load(self.path)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Array]:
        """For each observation's `states` (39,) and `task_description`, a chunk of one action, (1, 4) float32."""
        # One by one: a product over the whole batch may add in another order for another number of rows, and then
        # the outcome of an episode would hang on who else was asking.
        return [self._act(seen) for seen in observations]

    def _act(self, seen: Observation) -> Array:
        state = np.asarray(seen["states"]).reshape(STATE_DIM)
        features = self.network.features(state, seen["task_description"])
        return self.network.forward(features)[-1][None]


def _find(checkpoint: str) -> Path:
    have = shipped()
    path = have.get(int(checkpoint)) if checkpoint.isdecimal() else Path(checkpoint).expanduser()
    if path is None or not path.is_file():
        steps = ", ".join(map(str, sorted(have)))
        raise ConfigurationError(
            f"bc has no checkpoint '{checkpoint}': valid: the path of an .npz, or a step in {_CHECKPOINTS}: {steps}"
        )
    return path


def _numbers(file: Any, name: str, shape: tuple[int, ...]) -> Array:
    array = file[name]
    if array.shape != shape or array.dtype != np.float16 or not np.isfinite(array).all():
        raise ValueError(f"{name} is {array.dtype} {array.shape}, wanted finite float16 {shape}")
    return array.astype(np.float32)  # type: ignore[no-any-return]
