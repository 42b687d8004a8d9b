"""`shard RUN --shard-id N`: become the worker, in the benchmark's environment."""

from __future__ import annotations

import os

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.config.composition import from_yaml
from vlaeval_hpc.launch.description import command
from vlaeval_hpc.launch.environment import interpreter, process_environment
from vlaeval_hpc.launch.machine import render_variables, usable_gpus


def main(argv: list[str]) -> int:
    """Does not return: the process becomes the shard, so that its signals and exit status are the shard's."""
    parser = Parser("shard")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--shard-id", type=int)
    arguments = parser.parse_args(argv)
    run = run_directory(arguments.run)
    environment = from_yaml(run.config).benchmark.environment
    python = interpreter(environment, "benchmark", lambda line: print(line, flush=True))
    chosen = [] if arguments.shard_id is None else ["--shard-id", str(arguments.shard_id)]
    line = command(python, "vlaeval_hpc.worker", str(run.root.resolve()), *chosen)
    variables = {**render_variables(usable_gpus(None), arguments.shard_id or 0), **process_environment(environment)}
    os.execve(line[0], line, variables)
