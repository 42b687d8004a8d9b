"""`compare A B [C...]`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.comparison import compare
from vlaeval_hpc.results.merge import read_merged
from vlaeval_hpc.results.outcomes import Outcomes, outcomes, run_outcomes

WORSE = 3  # 2 is a wrong configuration


def main(argv: list[str]) -> int:
    """Exit status 0 when all runs are better than the baseline, 3 when one is worse, else 1: inconclusive."""
    parser = Parser("compare")
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--baseline")
    parser.add_argument("--metric", default="success")
    parser.add_argument("--min-difference", type=float, default=0.0)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    names = _names(arguments.runs)
    if len(names) < 2:
        raise ConfigurationError("compare: two runs or more are needed (see --help)")
    baseline = names.get(arguments.baseline, arguments.baseline)
    runs = [_read(name, text) for text, name in names.items()]
    found = compare(runs, baseline, arguments.metric, arguments.min_difference, arguments.alpha)
    if arguments.flips and not found.rate:
        raise ConfigurationError(f"--flips: {found.metric} is no rate: no episode flips")
    if arguments.json:
        print(json.dumps(asdict(found)))
    else:
        from rich.console import Console

        from vlaeval_hpc.results.comparisontable import print_comparison

        print_comparison(Console(highlight=False), found, arguments.flips)
    verdicts = {pair.verdict for pair in found.pairs}
    if verdicts & {"worse", "lower"}:
        return WORSE
    return 1 if "inconclusive" in verdicts else 0


def _names(texts: list[str]) -> dict[str, str]:
    """A short name for each argument: a run's folder, or the argument itself where two would be called alike."""
    paths = {text: Path(text).resolve() for text in texts}
    if len(set(paths.values())) < len(texts):
        raise ConfigurationError(f"compare: a run comes twice in {' '.join(texts)}")
    short = {text: path.parent.name if path.name == "merged.json" else path.name for text, path in paths.items()}
    count = Counter(short.values())
    return {text: name if count[name] == 1 else text for text, name in short.items()}


def _read(name: str, text: str) -> Outcomes:
    if Path(text).is_file():
        return outcomes(name, read_merged(Path(text)))
    return run_outcomes(name, run_directory(text))
