"""Start a shard: `python .../vlaeval_hpc/bootstrap.py vlaeval_hpc.worker RUN --shard-id N`.

`worker describe` answers, a line of JSON for each on standard input, what a benchmark has and takes: tasks, specs,
metrics, step limit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from typing import Any, Dict

from vlaeval_hpc.errors import ConfigurationError, VlaevalError
from vlaeval_hpc.run import lifeline
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.worker.shard import Shard


def main() -> int:
    """Exit status 0 when every item is finished, 2 for a bad configuration, 75 and above where work is left open."""
    parser = argparse.ArgumentParser(prog="vlaeval_hpc.worker")
    parser.add_argument("run", help="a run directory, or 'describe' (JSON on standard input)")
    parser.add_argument("--shard-id", type=int, help="default: SLURM_ARRAY_TASK_ID")
    arguments = parser.parse_args()
    try:
        if arguments.run == "describe":
            _describe()
            return 0
        shard = arguments.shard_id
        if shard is None:
            task = os.environ.get("SLURM_ARRAY_TASK_ID")
            if task is None:
                raise ConfigurationError("--shard-id is needed outside of a Slurm job array")
            shard = int(task)
        lifeline.hold()
        Shard(RunDirectory(arguments.run), shard).work()
    except VlaevalError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _describe() -> None:
    # The simulator's libraries print to standard output when they are imported; the answers must stand alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            found = _description(json.loads(line)["benchmark"])
        except ConfigurationError as error:
            found = {"error": str(error)}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _description(section: Dict[str, Any]) -> Dict[str, Any]:
    from vlaeval_hpc.worker.simulator import make_benchmark

    benchmark = make_benchmark(section)
    return {
        "tasks": benchmark.tasks(),
        "metrics": benchmark.metrics,
        "max_steps": benchmark.max_steps,
        "episodes_per_task": benchmark.episodes_per_task,
        "max_episodes": benchmark.max_episodes,
        "action_spec": {k: s.to_dict() for k, s in benchmark.action_spec.items()},
        "observation_spec": {k: s.to_dict() for k, s in benchmark.observation_spec.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
