"""`tune`: how many shards, simulators, replicas, and which batch size a pair of policy and benchmark wants."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vlaeval_hpc.cli.start import say
from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.checkpoints import ready_checkpoint
from vlaeval_hpc.launch.licenses import with_licenses
from vlaeval_hpc.launch.planning import check_numbers, safe_name
from vlaeval_hpc.launch.runtime import ready_runtime
from vlaeval_hpc.launch.tuning import Advice, Measured, advise, measure
from vlaeval_hpc.results.pages.tuning import tuning_page
from vlaeval_hpc.run.files import write_atomic

SECONDS = 5.0


def main(argv: list[str]) -> int:
    """Exit status 0."""
    as_json = "--json" in argv
    words, output = _taken([a for a in argv if a != "--json"], "-o", "--output")
    words, seconds = _taken(words, "--seconds")
    try:
        each = float(seconds or SECONDS)
    except ValueError:
        raise ConfigurationError(f"--seconds '{seconds}': valid: a number, as 5") from None
    console = Console(highlight=False, stderr=as_json)

    def job(config: Config, _: list[str], several: bool) -> None:
        if several:
            raise ConfigurationError("tune looks at one model and one benchmark: -m is for evaluations")
        found, advice = _tuned(config, each, console)
        if as_json:
            curves = {k: [point._asdict() for point in getattr(found, k)] for k in ("demand", "supply")}
            print(json.dumps({**found._asdict(), **curves, "advice": advice._asdict()}))
        else:
            _show(config, found, advice, console)
        if output:
            _write(Path(output), config, found, advice, console)

    for_each(words, job)
    return 0


def _tuned(config: Config, seconds: float, console: Console) -> tuple[Measured, Advice]:
    check_numbers(config)
    config = with_licenses(config)
    if config.server.url or config.model.target is None:
        raise ConfigurationError("tune runs the policy itself, in its environment: server.url is for evaluations")
    note = lambda line: say(console, line)  # noqa: E731
    benchmark = ready_runtime(config.benchmark.environment, config.benchmark.name, note)
    checkpoint = ready_checkpoint(config.model.checkpoint, note)
    config = replace(config, model=replace(config.model, checkpoint=checkpoint.value))
    model = ready_runtime(config.model.environment, config.model.name, note)
    found = measure(config, benchmark, model, seconds, note)
    return found, advise(found, config.cluster.shards if config.cluster.scheduler == "slurm" else None)


def _show(config: Config, found: Measured, advice: Advice, console: Console) -> None:
    demand = Table("shards", "steps/s", "looks/s")
    for d in found.demand:
        demand.add_row(str(d.shards), f"{d.steps:.1f}", f"{d.steps / found.chunk:.2f}")
    supply = Table("batch", "answers/s", "seconds a batch")
    for s in found.supply:
        supply.add_row(str(s.batch), f"{s.answers:.2f}", f"{s.latency:.4f}")
    names = {f"{config.benchmark.name}, as it asks": demand, f"{config.model.name}, as it answers": supply}
    for name, table in names.items():
        for column in table.columns:
            column.justify = "right"
        say(console, name)
        console.print(table)
    say(console, f"an answer is {found.chunk} steps; a simulator holds {found.memory / 1e9:.2f} GB")
    say(console, f"use: {' '.join(_overrides(advice))}")
    say(console, f"that should make about {advice.steps:.0f} steps a second")
    if advice.batch > 1:
        say(
            console, "in a batch, a policy's answers may differ in their last digits; model.max_batch_size=1 keeps them"
        )


def _overrides(advice: Advice) -> list[str]:
    return [
        f"cluster.shards={advice.shards}",
        f"cluster.simulators={advice.simulators}",
        f"model.max_batch_size={advice.batch}",
        f"model.replicas={advice.replicas}",
    ]


def _write(folder: Path, config: Config, found: Measured, advice: Advice, console: Console) -> None:
    name = safe_name(f"{config.model.name}_{config.benchmark.name}")
    (folder / "tuned").mkdir(parents=True, exist_ok=True)
    lines = [
        "# @package _global_",
        f"# Of {config.model.name} on {config.benchmark.name}, by `vlaeval_hpc tune`.",
        "cluster:",
        f"  shards: {advice.shards}",
        f"  simulators: {advice.simulators}",
        "model:",
        f"  max_batch_size: {advice.batch}",
        f"  replicas: {advice.replicas}",
    ]
    write_atomic(folder / "tuned" / f"{name}.yaml", "\n".join(lines) + "\n")
    plain: dict[str, Any] = {
        "demand": [(d.shards, d.steps / found.chunk) for d in found.demand],
        "supply": [(s.batch, s.answers) for s in found.supply],
    }
    page = tuning_page(config.model.name, config.benchmark.name, found.chunk, _overrides(advice), **plain)
    write_atomic(folder / f"{name}.html", page)
    say(console, f"written: {folder / f'{name}.html'}; to use it: --config-dir {folder} +tuned={name}")


def _taken(words: list[str], *names: str) -> tuple[list[str], str | None]:
    """The words without an option, and its value."""
    for name in names:
        if name in words:
            at = words.index(name)
            if at + 1 >= len(words):
                raise ConfigurationError(f"{name}: a value is missing")
            return words[:at] + words[at + 2 :], words[at + 1]
    return words, None
