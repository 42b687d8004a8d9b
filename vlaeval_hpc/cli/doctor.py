"""`doctor`: look at what this machine and its cluster offer an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from vlaeval_hpc.cli.arguments import Parser
from vlaeval_hpc.launch.doctor import examine
from vlaeval_hpc.launch.finding import OK, PROBLEM, WARNING, Finding

STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}


def main(argv: list[str]) -> int:
    """Exit status 0 when there is no problem, 1 otherwise; a warning is none."""
    parser = Parser("doctor")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=Path("results"))
    arguments = parser.parse_args(argv)
    findings = examine(arguments.results)
    if arguments.json:
        print(json.dumps([f._asdict() for f in findings]))
    else:
        _print(Console(highlight=False), findings)
    return 1 if any(f.state == PROBLEM for f in findings) else 0


def _print(console: Console, findings: list[Finding]) -> None:
    from rich.text import Text

    wide = max(len(f.name) for f in findings)
    for f in findings:
        line = Text.assemble((f.state.ljust(8), STYLES[f.state]), f"{f.name.ljust(wide)}  {f.found}")
        console.print(line, soft_wrap=True)
        if f.advice:
            console.print(Text(f"{'':{wide + 8}}  -> {f.advice}", style="bold"), soft_wrap=True)
    counts = [sum(f.state == state for f in findings) for state in (PROBLEM, WARNING)]
    console.print(f"problems: {counts[0]}, warnings: {counts[1]}")
