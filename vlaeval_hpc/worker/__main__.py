"""Start a shard: `python .../vlaeval_hpc/bootstrap.py vlaeval_hpc.worker RUN --shard-id N`.

`worker describe` answers, a line of JSON for each on standard input, what a benchmark has and takes: tasks, specs,
metrics, step limit. `worker check` answers what its episodes are (worker.conformance), `worker tune` how fast it steps.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import Any, Dict

from vlaeval_hpc.errors import VlaevalError
from vlaeval_hpc.run import lifeline
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.output import print_what_fits
from vlaeval_hpc.run.questions import answer_questions
from vlaeval_hpc.worker.shard import Shard


def main() -> int:
    """Exit status 0 when every item is finished, 2 for a bad configuration, 75 and above where work is left open."""
    parser = argparse.ArgumentParser(prog="vlaeval_hpc.worker")
    parser.add_argument("run", help="a run directory, or 'describe', 'check' or 'tune' (JSON on standard input)")
    parser.add_argument("--shard-id", type=int, default=0)
    arguments = parser.parse_args()
    try:
        if arguments.run == "describe":
            answer_questions(_description)
            return 0
        if arguments.run == "check":
            from vlaeval_hpc.worker import conformance

            answer_questions(conformance.answer)
            return 0
        if arguments.run == "tune":
            from vlaeval_hpc.worker.tuning import Stepper

            answer_questions(Stepper().answer)
            return 0
        print_what_fits()
        lifeline.hold()
        Shard(RunDirectory(arguments.run), arguments.shard_id).work()
    except VlaevalError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _description(question: Dict[str, Any]) -> Dict[str, Any]:
    from vlaeval_hpc.benchmarks.base import Benchmark
    from vlaeval_hpc.worker.simulator import make_benchmark

    benchmark = make_benchmark(question["benchmark"])
    return {
        "tasks": benchmark.tasks(),
        "metrics": benchmark.metrics,
        "max_steps": benchmark.max_steps,
        "episodes_per_task": benchmark.episodes_per_task,
        "max_episodes": benchmark.max_episodes,
        "holds": type(benchmark).hold is not Benchmark.hold,
        "action_spec": {k: s.to_dict() for k, s in benchmark.action_spec.items()},
        "observation_spec": {k: s.to_dict() for k, s in benchmark.observation_spec.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
