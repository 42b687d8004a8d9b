"""`browse RESULTS`."""

from __future__ import annotations

import sys

from vlaeval_hpc.cli.arguments import Parser
from vlaeval_hpc.cli.roots import index_folder, results_root
from vlaeval_hpc.errors import ConfigurationError


def main(argv: list[str]) -> int:
    """Exit status 0 when the user leaves."""
    parser = Parser("browse")
    parser.add_argument("results", metavar="RESULTS", nargs="?", default="results")
    root = results_root(parser.parse_args(argv).results)
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise ConfigurationError("browse: needs a terminal: `query` and `report` do not")
    from vlaeval_hpc.results.memory import uncollected

    with uncollected():  # hundreds of modules, all of which stay
        from vlaeval_hpc.results.browser.app import Browser

    Browser(root, index_folder(root)).run()
    return 0
