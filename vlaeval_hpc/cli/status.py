"""`status RUN`."""

from __future__ import annotations

import json
from dataclasses import asdict

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.results.status import read_status


def main(argv: list[str]) -> int:
    """Exit status 0: telling succeeded, whatever it tells."""
    parser = Parser("status")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    status = read_status(run_directory(arguments.run))
    if arguments.json:
        print(json.dumps(asdict(status)))
        return 0
    from rich.console import Console

    from vlaeval_hpc.results.statustable import print_status

    print_status(Console(highlight=False), status)
    return 0
