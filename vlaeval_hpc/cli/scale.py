"""`scale RUN N`: more or fewer shards while it runs."""

from __future__ import annotations

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.config.composition import from_yaml
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.scale import scale


def main(argv: list[str]) -> int:
    """Exit status 0 when so many shards are queued or running."""
    parser = Parser("scale")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("shards", metavar="N", type=int)
    arguments = parser.parse_args(argv)
    if arguments.shards < 1:
        raise ConfigurationError(f"scale: {arguments.shards} shards: valid: 1 and more; `cancel` ends a run")
    run = run_directory(arguments.run)
    config = from_yaml(run.config)
    if config.cluster.scheduler != "slurm":
        raise ConfigurationError(f"{run.root}: cluster={config.cluster.name}: valid: a run on Slurm")
    added, cancelled = scale(config, run, arguments.shards)
    for what, shards in (("submitted", added), ("cancelled", cancelled)):
        if shards:
            print(f"{what} {len(shards)} shards: {', '.join(map(str, shards))}")
    if not added and not cancelled:
        print("so many shards are there")
    return 0
