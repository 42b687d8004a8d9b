"""`check`: whether a benchmark's and a policy's adapter keep what they promise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.checkpoints import ready_checkpoint
from vlaeval_hpc.launch.conformance import check_benchmark, check_pair, check_policy, kept_folder
from vlaeval_hpc.launch.finding import OK, PROBLEM, Finding
from vlaeval_hpc.launch.licenses import with_licenses
from vlaeval_hpc.launch.planning import check_numbers
from vlaeval_hpc.launch.runtime import ready_runtime

STEPS = 24
STATES = {OK: ("ok", "green"), PROBLEM: ("FAIL", "bold red")}


def main(argv: list[str]) -> int:
    """Exit status 0 when every check is ok, 1 otherwise."""
    as_json = "--json" in argv
    words, steps = _without_steps([a for a in argv if a != "--json"])
    console = Console(highlight=False, stderr=as_json)
    findings: list[Finding] = []

    def say(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            word, style = STATES[finding.state]
            line = Text.assemble((word.ljust(6), style), f"{finding.name.ljust(20)}  {finding.found}")
            console.print(line, soft_wrap=True)

    # A benchmark by itself is checked by itself; a policy needs one to look at.
    named = {w.partition("=")[0] for w in words}
    with_policy = "model" in named or "benchmark" not in named

    def job(config: Config, _: list[str], several: bool) -> None:
        if several:
            raise ConfigurationError("check looks at one model and one benchmark: -m is for evaluations")
        _check(config, with_policy, steps, lambda line: console.print(line, markup=False), say)

    for_each(words, job)
    failed = [f.name for f in findings if f.state == PROBLEM]
    if as_json:
        print(json.dumps([f._asdict() for f in findings]))
    else:
        console.print(f"failed: {', '.join(failed)}" if failed else f"{len(findings)} checks, all ok")
    return 1 if failed else 0


def _check(
    config: Config, with_policy: bool, steps: int, note: Callable[[str], None], say: Callable[[Finding], None]
) -> None:
    check_numbers(config)
    config = with_licenses(config)
    if with_policy and (config.server.url or config.model.target is None):
        raise ConfigurationError("check runs the policy itself, in its environment: server.url is for evaluations")
    benchmark = ready_runtime(config.benchmark.environment, config.benchmark.name, note)
    if with_policy:
        checkpoint = ready_checkpoint(config.model.checkpoint, note)
        config = replace(config, model=replace(config.model, checkpoint=checkpoint.value))
        model = ready_runtime(config.model.environment, config.model.name, note)
        check_pair(config, benchmark, model, say)
    with kept_folder() as folder:
        try:
            episodes = check_benchmark(config, benchmark, steps, Path(folder) if with_policy else None, say)
            if with_policy:
                check_policy(config, model, episodes, say)
        except ConfigurationError as error:  # what the two say of themselves was asked before
            say(Finding("run", PROBLEM, str(error)))


def _without_steps(words: list[str]) -> tuple[list[str], int]:
    if "--steps" not in words:
        return words, STEPS
    at = words.index("--steps")
    value = words[at + 1] if at + 1 < len(words) else ""
    if not re.fullmatch(r"[1-9]\d{0,5}", value):
        raise ConfigurationError(f"--steps '{value}': valid: 1 and more")
    return words[:at] + words[at + 2 :], int(value)
