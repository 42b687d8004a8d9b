"""What several simulators in a shard bring: `python perf/simulators.py`.

One shard on one CPU, Meta-World's states, a policy that takes 0.1 s for a batch of any size and answers 8 steps: 24
episodes of 160 steps with 1, 2 and 4 simulators. Seconds an episode once all simulators are made, by the journal;
outcomes must be the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import Spec

ROOT = Path(__file__).parent.parent
LATENCY, CHUNK = 0.1, 8


class Slow(Policy):
    """Thinks for a while, then does next to nothing."""

    action_spec = {"action": Spec("action", 4, "any")}
    observation_spec = {"state": Spec("state", 39, "any")}

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Any]:
        time.sleep(LATENCY)
        return [np.full((CHUNK, 4), 0.01 * np.sin(s.step), np.float32) for s in sessions]


def main() -> int:
    """The table."""
    first: tuple[float, Any] | None = None
    for simulators in (1, 2, 4):
        seconds, outcomes = run(simulators)
        first = first or (seconds, outcomes)
        assert outcomes == first[1], "outcomes depend on the number of simulators"
        print(f"{simulators} simulators: {seconds:5.2f} s an episode, {first[0] / seconds:.2f} times one")
    return 0


def run(simulators: int) -> tuple[float, Any]:
    """Seconds an episode, the first and last ones apart, and the outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "vlaeval_hpc", "--config-dir", str(ROOT / "perf" / "conf"), "model=slow"]
        line += ["benchmark=metaworld", "benchmark.max_tasks=2", "benchmark.episodes_per_task=12"]
        line += ["benchmark.max_steps=160", "cluster.shards=1", f"cluster.simulators={simulators}"]
        line += [f"cluster.cpus={min(os.sched_getaffinity(0))}", f"results={folder}", "run=it"]
        environment = {**os.environ, "PERF_ROOT": str(ROOT)}
        subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=True)
        [journal] = (Path(folder) / "it" / "shards").glob("*.jsonl")
        episodes = [json.loads(text) for text in journal.read_text().splitlines()]
    ends = sorted(e["finished_at"] for e in episodes)
    return (ends[-5] - ends[4]) / (len(ends) - 9), sorted(
        (e["task"], e["episode_id"], e["steps"], str(e["metrics"])) for e in episodes
    )


if __name__ == "__main__":
    sys.exit(main())
