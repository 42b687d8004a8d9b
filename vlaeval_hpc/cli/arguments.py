"""argparse for the verbs that take a run directory, with errors like all others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.directory import RunDirectory


class Parser(argparse.ArgumentParser):
    """Raises ConfigurationError instead of printing a usage and ending the process."""

    def __init__(self, verb: str) -> None:
        super().__init__(prog=f"vlaeval_hpc {verb}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{self.prog}: {message} (see --help)")


def run_directory(text: str) -> RunDirectory:
    """The run directory that a user named. Raises ConfigurationError where it is none."""
    run = RunDirectory(text)
    if not run.plan.is_file():
        what = "no such folder" if not Path(text).exists() else "not a run directory: it has no plan.json"
        raise ConfigurationError(f"{text}: {what}")
    return run
