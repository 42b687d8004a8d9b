"""`report RUN|SWEEP|ROOT`."""

from __future__ import annotations

from pathlib import Path

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.cli.roots import index_folder, results_root
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.sweep import SweepFolder, is_sweep, read_sweep
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_atomic


def main(argv: list[str]) -> int:
    """Exit status 0 when the page is written."""
    parser = Parser("report")
    parser.add_argument("path", metavar="RUN, SWEEP or ROOT")
    parser.add_argument("--against", metavar="RUN")
    parser.add_argument("-o", "--output", metavar="OUT.html")
    arguments = parser.parse_args(argv)
    folder = results_root(arguments.path)
    output = Path(arguments.output) if arguments.output else None
    if output is not None and not output.parent.is_dir():
        raise ConfigurationError(f"report: -o {output}: no such folder: {output.parent}")
    is_run = RunDirectory(folder).plan.is_file()
    if arguments.against and not is_run:
        raise ConfigurationError(f"report: --against: {folder} is no run directory")
    if is_run:
        other = run_directory(arguments.against) if arguments.against else None
        target, page = _run(RunDirectory(folder), other, output)
    elif is_sweep(folder):
        from vlaeval_hpc.results.pages.sweep import sweep_page

        sweep = SweepFolder(folder)
        target = output or sweep.html
        page = sweep_page(read_sweep(sweep), folder, target)
    else:
        from vlaeval_hpc.results.index import read_index
        from vlaeval_hpc.results.pages.root import root_page

        target = output or folder / "index.html"
        page = root_page(read_index(folder, index_folder(folder)), target)
    write_atomic(target, page)
    print(target)
    return 0


def _run(run: RunDirectory, other: RunDirectory | None, output: Path | None) -> tuple[Path, str]:
    from vlaeval_hpc.results.pages.run import report_path, run_page

    target = output or report_path(run)
    return target, run_page(run, other=other, target=target)
