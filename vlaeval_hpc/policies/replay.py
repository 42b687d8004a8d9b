"""Actions that were recorded: the same episodes again, to see that a simulator repeats them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import LANGUAGE, Spec

Actions = NDArray[np.floating[Any]]


class Replay(Policy):
    """Gives the actions of `path` for the episode that it is asked about, all that are left in one chunk.

    JSON Lines: {"task": name, "episode": number, "actions": (steps, dim)} a line. Or an .npz with an array (steps, dim)
    for each "task/episode". Raises ConfigurationError where the file is neither; ValueError for an episode that was not
    recorded, or goes on after its record ends.
    """

    observation_spec = {"language": LANGUAGE}

    def __init__(self, *, checkpoint: str | None, path: str) -> None:
        super().__init__(checkpoint=checkpoint)
        self._path = Path(path).expanduser()
        try:
            self._recorded = _npz(self._path) if self._path.suffix == ".npz" else _json_lines(self._path)
            dims = {_checked(where, actions).shape[1] for where, actions in self._recorded.items()}
        except Exception as error:  # zipfile, zlib, json and numpy raise a dozen kinds over a broken file
            raise ConfigurationError(f"model.params.path={path}: {type(error).__name__}: {error}") from error
        if len(dims) != 1:
            raise ConfigurationError(
                f"model.params.path={path}: actions of {sorted(dims)} numbers: one length is valid"
            )
        self.action_spec = {"action": Spec("action", dims.pop(), "raw")}

    def files(self) -> list[Path]:
        return [self._path]

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Actions]:
        return [self._left(session) for session in sessions]

    def _left(self, session: Session) -> Actions:
        where = (str(session.task.get("name")), int(session.task.get("episode_idx", -1)))
        if where not in self._recorded:
            raise ValueError(f"{self._path} has no episode {where[1]} of '{where[0]}'")
        left = self._recorded[where][session.step :]
        if not len(left):
            raise ValueError(f"episode {where[1]} of '{where[0]}' goes on after the {session.step} recorded actions")
        return left


def _json_lines(path: Path) -> dict[tuple[str, int], Actions]:
    found: dict[tuple[str, int], Actions] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        found[str(one["task"]), int(one["episode"])] = np.array(one["actions"], dtype=np.float64)
    return found


def _npz(path: Path) -> dict[tuple[str, int], Actions]:
    with np.load(path, allow_pickle=False) as file:
        split = {name: name.rpartition("/") for name in file.files}
        return {(task, int(episode)): file[name] for name, (task, _, episode) in split.items()}


def _checked(where: tuple[str, int], actions: Actions) -> Actions:
    if actions.ndim != 2 or not actions.size or actions.dtype.kind not in "iuf" or not np.isfinite(actions).all():
        raise ValueError(
            f"{where[0]}/{where[1]} is {actions.dtype} {actions.shape}: finite numbers (steps, dim) are valid"
        )
    return actions
