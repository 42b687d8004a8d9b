"""`prepare [key=value ...]`: everything that needs a network or a long build, before a job is asked for."""

from __future__ import annotations

from rich.console import Console

from vlaeval_hpc.cli.start import say
from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.launch.evaluation import Preparation


def main(argv: list[str]) -> int:
    """Exit status 0 when the evaluation, or every point of a sweep, could start without a network."""
    console = Console(highlight=False)
    with Preparation(lambda line: say(console, line)) as preparation:

        def job(config: Config, _: list[str], __: bool) -> None:
            evaluation = preparation.evaluation(config)
            for name, runtime in evaluation.runtimes.items():
                where = f"{runtime.image.path} ({runtime.image.digest})" if runtime.image else runtime.python
                say(console, f"{name}: {where}")
            for path, digest in evaluation.checkpoint.items():
                say(console, f"checkpoint: {path} (sha256:{digest})")

        for_each(argv, job)
    return 0
