"""`serve [RUN | key=value ...]`: become the policy server, in the policy's environment."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from vlaeval_hpc.cli.arguments import run_directory
from vlaeval_hpc.config.composition import for_each, from_yaml
from vlaeval_hpc.config.schema import Config, ModelConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.description import command, describe_policy
from vlaeval_hpc.launch.environment import interpreter, process_environment
from vlaeval_hpc.launch.planning import check_numbers


def main(argv: list[str]) -> int:
    """Does not return, but for --cfg and the like: the process becomes the server."""
    if len(argv) == 1 and "=" not in argv[0] and not argv[0].startswith("-"):
        run = run_directory(argv[0])
        run.stop.unlink(missing_ok=True)
        _become(from_yaml(run.config).model, str(run.root.resolve()))
    for_each(argv, _serve)
    return 0


def _serve(config: Config, overrides: list[str], several: bool) -> None:
    if several:
        raise ConfigurationError("serve starts one server: -m is for evaluations")
    if config.model.target is None:
        raise ConfigurationError(f"model={config.model.name} has no policy to serve")
    check_numbers(config)
    describe_policy(config.model, _python(config.model))
    question = json.dumps({"model": asdict(config.model), "server": asdict(config.server)})
    # The server reads it from its standard input: an unnamed file, since a pipe would need somebody to feed it.
    with tempfile.TemporaryFile() as stream:
        stream.write(question.encode())
        stream.seek(0)
        os.dup2(stream.fileno(), 0)
    _become(config.model, "-")


def _python(model: ModelConfig) -> Path:
    return interpreter(model.environment, "model", lambda line: print(line, flush=True))


def _become(model: ModelConfig, what: str) -> None:
    line = command(_python(model), "vlaeval_hpc.serving", what)
    os.execve(line[0], line, process_environment(model.environment))
