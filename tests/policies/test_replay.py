"""The policy replay: which files it takes, and what it gives of them. test_scripted.py replays a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.replay import Replay

ACTIONS = {("a", 0): np.arange(6.0).reshape(3, 2), ("lift / it", 12): np.ones((1, 2))}


def written(folder: Path, ending: str) -> Path:
    path = folder / f"recorded.{ending}"
    if ending == "npz":
        arrays: dict[str, Any] = {f"{task}/{episode}": actions for (task, episode), actions in ACTIONS.items()}
        np.savez(path, **arrays)
    else:
        lines = [{"task": t, "episode": e, "actions": a.tolist(), "more": 1} for (t, e), a in ACTIONS.items()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def session(task: str, episode: int, step: int = 0) -> Session:
    return Session("a", task={"name": task, "episode_idx": episode}, step=step)


@pytest.mark.parametrize("ending", ["npz", "jsonl"])
def test_an_episode_gets_what_is_left_of_its_record(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending)
    policy = Replay(checkpoint=None, path=str(path))
    assert policy.files() == [path] and policy.action_spec["action"].dims == 2
    asked = [session("lift / it", 12), session("a", 0), session("a", 0, step=2)]
    whole, three, last = policy.predict([{}] * 3, asked)
    assert (whole.shape, three.shape, last.tolist()) == ((1, 2), (3, 2), [[4, 5]])
    for wrong, says in ((session("a", 1), "no episode 1 of 'a'"), (session("a", 0, 3), "goes on after the 3")):
        with pytest.raises(ValueError, match=says):
            policy.predict([{}], [wrong])
    with pytest.raises(ValueError, match="no episode"):
        policy.predict([{}], [Session("a")])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"task": "a", "episode": 0, "actions": []}',
        '{"task": "a", "episode": 0, "actions": [[1], [1, 2]]}',
        '{"task": "a", "episode": 0, "actions": [[NaN]]}',
        '{"task": "a", "episode": 0, "actions": [[1]]}\n{"task": "a", "episode": 1, "actions": [[1, 2]]}',
        '{"task": "a", "episode": 0, "act',
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"model\.params\.path=.*recorded"):
        Replay(checkpoint=None, path=str(path))


def test_a_pickle_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recorded.npz"
    np.savez(path, **{"a/0": np.array([{}], dtype=object)})
    for name in (path, tmp_path / "none.npz", tmp_path / "none.jsonl"):
        with pytest.raises(ConfigurationError, match=r"model\.params\.path"):
            Replay(checkpoint=None, path=str(name))
