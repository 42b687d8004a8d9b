"""Meta-World's experts on Meta-World, as a user starts them; and their actions, recorded and replayed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command, benchmark_environment
from tests.toys import merged, outcomes
from vlaeval_hpc.benchmarks.metaworld import MetaWorld
from vlaeval_hpc.config.composition import conf_folder
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.scripted import Scripted
from vlaeval_hpc.wire.specs import misfits

TASKS = ("reach-v3", "door-open-v3", "peg-insert-side-v3")
PART = ("benchmark.params.suite=mt10", f"benchmark.tasks=[{','.join(TASKS)}]", "benchmark.episodes_per_task=2")

RECORD = """
import sys, warnings
import numpy as np
sys.path.insert(0, sys.argv[1])
from vlaeval_hpc.benchmarks.metaworld import INSTRUCTIONS, MetaWorld
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.scripted import Scripted
expert = Scripted(checkpoint=None)
expert.load()
found = {}
for task in sys.argv[3:]:
    for episode in range(2):
        benchmark = MetaWorld(seed=0)
        benchmark.select(["state"])
        benchmark.reset({"name": task, "instruction": INSTRUCTIONS[task]}, episode)
        session, actions, over = Session("a", task={"name": task}), [], False
        while not over and len(actions) < 500:
            (action,) = expert.predict([benchmark.observe()], [session])
            actions.append(np.float32(action))
            over = benchmark.step(np.float32(action))
        found[f"{task}/{episode}"] = np.array(actions)
np.savez(sys.argv[2], **found)
"""


def test_it_fits_and_needs_what_the_benchmark_needs() -> None:
    from omegaconf import OmegaConf

    theirs = MetaWorld
    assert misfits(Scripted.action_spec, theirs.action_spec, Scripted.observation_spec, theirs.observation_spec) == []
    section = OmegaConf.load(conf_folder() / "model" / "scripted.yaml")
    assert list(section.environment.requirements) == benchmark_environment("metaworld").requirements
    policy = Scripted(checkpoint=None)
    with pytest.raises(ConfigurationError, match="task 'none'"):
        policy.reset(Session("a", task={"name": "none"}))


def test_experts_win_and_their_actions_replayed_win_at_the_same_step(
    vlaeval: Command, metaworld_python: Path, tmp_path: Path
) -> None:
    done = vlaeval("model=scripted", "benchmark=metaworld", *PART, "run=experts", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    experts = outcomes(merged(tmp_path, "experts"))
    assert len(experts) == 6 and all(dict(metrics)["success"] for metrics, _, _ in experts.values()), experts
    path = tmp_path / "recorded.npz"
    command = [str(metaworld_python), "-c", RECORD, str(ROOT), str(path), *TASKS]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "MUJOCO_GL": "disabled"})
    done = vlaeval("model=replay", f"model.params.path={path}", "benchmark=metaworld", *PART, "run=again", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "again")) == experts
