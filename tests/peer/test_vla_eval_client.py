"""vla-eval 0.8.0's own client and orchestrator evaluate a policy on our server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.peer.support.point import MAX_STEPS, Point, direction
from tests.serving.conftest import Start
from tests.serving.servers import TOKEN, Server

SUPPORT = Path(__file__).parent / "support"


def evaluate(python: Path, server: Server, folder: Path, entry: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """`vla-eval run` with one benchmark; its aggregate. The token goes in the URL: its client takes nothing else."""
    config = {"server": {"url": f"{server.url}/?token={TOKEN}"}, "output_dir": str(folder), "benchmarks": [entry]}
    (folder / "eval.yaml").write_text(yaml.safe_dump({**config, "render": entry.pop("render", None)}))
    command = [python, "-m", "vla_eval.cli.main", "run", "--no-docker", "-c", folder / "eval.yaml", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (aggregate,) = folder.glob("*_aggregate.json")
    return {**json.loads(aggregate.read_text()), "log": done.stderr}


def outcomes(result: dict[str, Any]) -> dict[tuple[str, int], tuple[bool, int, Any]]:
    return {
        (t["task"], e["episode_id"]): (e["metrics"]["success"], e["steps"], e.get("failure_reason"))
        for t in result["tasks"]
        for e in t["episodes"]
    }


def played(task: int, episode: int, chunk: int) -> tuple[bool, int, None]:
    """An episode without any server between the policy and the task."""
    point = Point(task, episode)
    while point.steps < MAX_STEPS and not point.near:
        if point.steps % chunk == 0:
            action = direction(point.image())
        point.step(action)
    return point.near, point.steps, None


@pytest.mark.parametrize("chunk", [1, 4])
def test_an_evaluation_ends_as_the_policy_plays(
    vla_eval_python: Path, serving: Start, tmp_path: Path, chunk: int
) -> None:
    """Frames come as PNG, states and wrist camera because our HELLO asks for them; the policy checks each."""
    server = serving(name="seer", target="peer.support.seer:Seer", params={"chunk": chunk})
    entry = {"benchmark": "peer_benchmark:PointBenchmark", "episodes_per_task": 3, "mode": "sync"}
    result = evaluate(vla_eval_python, server, tmp_path, entry)
    expected = {(f"point-{t}", e): played(t, e, chunk) for t in range(2) for e in range(3)}
    assert outcomes(result) == expected
    assert result["mean_success"] == 0.5
    assert server.metric("episodes_total") == 6
    assert server.metric("errors_total") == 0
    assert server.metric("predict_seconds_count") == sum(-(-steps // chunk) for _, steps, _ in expected.values())
    assert "observation [wrist]" in result["log"]  # its own check of specs reads ours: PointBenchmark declares no wrist


def test_a_policy_that_fails_is_a_failed_episode_there_and_the_next_goes_on(
    vla_eval_python: Path, serving: Start, tmp_path: Path
) -> None:
    server = serving(name="pilot", target="doubles.pilot:Pilot", params={"fault": "raise:point-0"}, checkpoint=None)
    entry = {"benchmark": "peer_benchmark:PointBenchmark", "episodes_per_task": 2}
    entry["params"] = {"send_state": True}
    found = outcomes(evaluate(vla_eval_python, server, tmp_path, entry))
    assert [found["point-0", e][2] for e in range(2)] == ["model_act"] * 2
    assert [found["point-1", e][2] for e in range(2)] == [None] * 2


def test_shards_of_it_share_our_server(vla_eval_python: Path, serving: Start, tmp_path: Path) -> None:
    server = serving(name="seer", target="peer.support.seer:Seer")
    config = {
        "server": {"url": f"{server.url}/?token={TOKEN}"},
        "output_dir": str(tmp_path),
        "benchmarks": [{"benchmark": "peer_benchmark:PointBenchmark", "episodes_per_task": 3}],
    }
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(config))
    command = [vla_eval_python, "-m", "vla_eval.cli.main", "run", "--no-docker", "-c", "eval.yaml", "--no-save"]
    running = [
        subprocess.Popen(
            [*command, "--num-shards", "2", "--shard-id", str(i)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SUPPORT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    for one in running:
        told = one.communicate(timeout=300)[0]
        assert one.returncode == 0, told
    assert server.metric("episodes_total") == 6
    assert server.metric("errors_total") == 0


FAKE_TORCH = """
# vla-eval's LIBERO adapter wraps torch.load, for initial states that in our package of LIBERO are plain arrays.
def load(*_, **__): ...
"""


def test_real_libero_on_our_server(libero_vla_eval_python: Path, serving: Start, tmp_path: Path) -> None:
    """One episode of libero_spatial by vla-eval's adapter, two cameras and the state, chunks of 8."""
    observe = ["agentview", "wrist", "state", "language"]
    server = serving(
        name="random",
        target="vlaeval_hpc.policies.random:Random",
        params={"dim": 7, "chunk": 8, "observe": observe},
        checkpoint=None,
    )
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    entry = {
        "benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark",
        "episodes_per_task": 1,
        "max_tasks": 1,
        "max_steps": 12,
        "params": {"suite": "libero_spatial", "seed": 7},
        "render": "cpu",
    }
    result = evaluate(libero_vla_eval_python, server, tmp_path, entry)
    ((success, steps, failure),) = outcomes(result).values()
    assert (success, steps, failure) == (False, 12, None), result["log"]
    assert server.metric("predict_seconds_count") == 2
    assert server.metric("observations_total") == 12
