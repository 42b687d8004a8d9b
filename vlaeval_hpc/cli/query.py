"""`query RESULTS SQL`."""

from __future__ import annotations

import csv
import datetime
import itertools
import json
import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from vlaeval_hpc.cli.arguments import Parser
from vlaeval_hpc.cli.roots import index_folder, results_root
from vlaeval_hpc.errors import ConfigurationError

SHOWN = 1000  # rows of a table


def main(argv: list[str]) -> int:
    """Exit status 0, whatever the answer."""
    parser = Parser("query")
    parser.add_argument("results", metavar="RESULTS")
    parser.add_argument("sql", metavar="SQL")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--csv", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.json and arguments.csv:
        raise ConfigurationError("query: --json and --csv: valid: one of them")
    from vlaeval_hpc.results.index import read_index
    from vlaeval_hpc.results.query import query

    root = results_root(arguments.results)
    cache = index_folder(root)
    index = read_index(root, cache)
    for line in index.problems:
        print(f"problem: {line}", file=sys.stderr)
    found = query(index, cache, arguments.sql)
    if arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows(found.rows())
    elif arguments.json:
        # A row a line, as they are read: there may be millions.
        before = "[\n "
        for row in found.rows():
            values = {name: _plain(value) for name, value in zip(found.columns, row, strict=True)}
            print(before + json.dumps(values), end="")
            before = ",\n "
        print("[]" if before.startswith("[") else "\n]")
    else:
        _show(found.columns, found.rows())
    return 0


def _show(columns: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    from rich.console import Console

    from vlaeval_hpc.results.grid import Grid, print_grid

    shown = list(itertools.islice(rows, SHOWN))
    text = frozenset(name for n, name in enumerate(columns) if any(isinstance(row[n], str) for row in shown))
    print_grid(Console(highlight=False), Grid(columns, [list(map(_cell, row)) for row in shown], left=text))
    if next(rows, None) is not None:
        print(f"the first {SHOWN} rows: --csv and --json print all, LIMIT asks for fewer", file=sys.stderr)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
