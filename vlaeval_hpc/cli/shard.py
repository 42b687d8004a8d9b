"""`shard RUN --shard-id N`: run the worker, in the benchmark's environment."""

from __future__ import annotations

import os

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.tasks import work
from vlaeval_hpc.run.plan import Plan


def main(argv: list[str]) -> int:
    """The shard's exit status: 0 when all its items are finished."""
    parser = Parser("shard")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--shard-id", type=int)
    arguments = parser.parse_args(argv)
    run = run_directory(arguments.run)
    shard = arguments.shard_id
    if shard is None:
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        if task is None:
            raise ConfigurationError("--shard-id is needed outside of a Slurm job array")
        shard = int(task)
    plan = Plan.load(run.plan)
    if plan.sharding == "static":
        plan.assigned(shard)  # a number that the plan does not have is told before anything starts
    return work(run, [shard], logged=False).status
