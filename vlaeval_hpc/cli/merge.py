"""`merge RUN`, `merge SWEEP` and `merge FILES... -o OUT.json`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.console import Console

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.cli.tracking import track
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.export import merge_into_files, to_json, write_csv_file, write_json_file
from vlaeval_hpc.results.merge import merge_files
from vlaeval_hpc.results.rundir import is_open_run
from vlaeval_hpc.results.sweep import SweepFolder, is_sweep, write_sweep
from vlaeval_hpc.results.table import print_merged


def main(argv: list[str]) -> int:
    """Exit status 0 when everything planned is there, 1 for a partial result."""
    parser = Parser("merge")
    parser.add_argument("paths", metavar="RUN or FILES", nargs="+")
    parser.add_argument("-o", "--output", metavar="OUT.json")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    paths = [Path(p) for p in arguments.paths]
    if arguments.output is None and is_sweep(paths[0]) and len(paths) == 1:
        return _sweep(SweepFolder(paths[0]), arguments.json)
    if arguments.output is None:
        if len(paths) > 1 or paths[0].is_file():
            raise ConfigurationError("merge: where to? -o OUT.json is needed for single files")
        run = run_directory(arguments.paths[0])
        merged = merge_into_files(run)
        track(run, merged, Console(stderr=True, highlight=False))
    else:
        output = Path(arguments.output)
        if output.suffix != ".json" or output in paths:
            raise ConfigurationError(f"merge: -o {output}: a name that ends in .json, and none of the files, is needed")
        merged = merge_files(paths)
        write_json_file(output, merged)
        write_csv_file(output.with_suffix(".csv"), merged)
    if arguments.json:
        print(to_json(merged), end="")
    else:
        print_merged(Console(highlight=False), merged)
        if arguments.output is None and is_open_run(merged):
            print(f"to finish what is open: python -m vlaeval_hpc resume {shlex.quote(arguments.paths[0])}")
    return 1 if merged.get("partial") else 0


def _sweep(folder: SweepFolder, as_json: bool) -> int:
    found = write_sweep(folder)
    if as_json:
        print(json.dumps(found))
    else:
        from vlaeval_hpc.results.sweeptable import print_sweep

        print_sweep(Console(highlight=False), found)
    return int(any(point["state"] != "done" for point in found["points"]))
