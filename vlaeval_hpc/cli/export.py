"""`export RUN -o FOLDER`: recorded episodes as a LeRobot dataset."""

from __future__ import annotations

from pathlib import Path

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.results.dataset import write_lerobot


def main(argv: list[str]) -> int:
    """Exit status 0 once the dataset is there."""
    parser = Parser("export")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--only", choices=("success", "failure"))
    arguments = parser.parse_args(argv)
    count = write_lerobot(run_directory(arguments.run), arguments.output, arguments.only)
    print(f"{count} episodes in {arguments.output}")
    return 0
