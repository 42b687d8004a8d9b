"""`serve [RUN | key=value ...]`: run the policy server, in the policy's environment."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.evaluation import Preparation
from vlaeval_hpc.launch.machine import has_nvidia, usable_gpus
from vlaeval_hpc.launch.planning import check_numbers
from vlaeval_hpc.launch.process import Process, supervise
from vlaeval_hpc.launch.roles import checkpoint_binds
from vlaeval_hpc.launch.tasks import serve


def main(argv: list[str]) -> int:
    """The server's exit status, once it has ended."""
    if argv and "=" not in argv[0] and not argv[0].startswith("-"):
        parser = Parser("serve")
        parser.add_argument("run", metavar="RUN")
        parser.add_argument("--replica", type=int, default=0)
        arguments = parser.parse_args(argv)
        run = run_directory(arguments.run)
        run.stop.unlink(missing_ok=True)
        return serve(run, arguments.replica, logged=False).status
    statuses: list[int] = []
    for_each(argv, lambda config, _, several: statuses.append(_serve(config, several)))
    return statuses[0] if statuses else 0


def _serve(config: Config, several: bool) -> int:
    if several:
        raise ConfigurationError("serve starts one server: -m is for evaluations")
    if config.model.target is None:
        raise ConfigurationError(f"model={config.model.name} has no policy to serve")
    check_numbers(config)
    with Preparation(lambda line: print(line, flush=True)) as preparation:
        config, runtime = preparation.policy(config)
    gpus = usable_gpus(None)
    process = Process(
        name="server",
        runtime=runtime,
        module="vlaeval_hpc.serving",
        arguments=["-"],
        log=None,
        lifeline=False,
        binds=checkpoint_binds(config.model.checkpoint),
        nv=bool(gpus) and has_nvidia(),
    )
    # The server reads it from its standard input: an unnamed file, since a pipe would need somebody to feed it.
    with tempfile.TemporaryFile() as stream:
        stream.write(json.dumps({"model": asdict(config.model), "server": asdict(config.server)}).encode())
        stream.seek(0)
        os.dup2(stream.fileno(), 0)
    return supervise([process]).status
