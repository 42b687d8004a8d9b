"""`reproduce RUN`: the command that made it, what is different now, and with --run the same again."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from vlaeval_hpc.cli.arguments import Parser, run_directory
from vlaeval_hpc.cli.evaluate import prepared, start
from vlaeval_hpc.cli.start import say
from vlaeval_hpc.config.composition import from_yaml
from vlaeval_hpc.errors import ConfigurationError, VlaevalError
from vlaeval_hpc.launch.evaluation import Evaluation, Preparation
from vlaeval_hpc.launch.provenance import provenance
from vlaeval_hpc.results.findings import Outcome, outcome
from vlaeval_hpc.results.merge import Merged
from vlaeval_hpc.results.pages.origin import by_name
from vlaeval_hpc.results.rundir import current_merge
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import read_json
from vlaeval_hpc.run.plan import Plan

AGAIN = "_again"
OF_THE_PLACE = frozenset(("schema", "command", "created_at", "host", "overrides", "folder", "resumed", "platform"))
"""What may differ without another outcome being due to it."""


@dataclass
class Difference:
    """What was then, and what it is now; None where there is none."""

    what: str
    then: Any
    now: Any


def main(argv: list[str]) -> int:
    """Exit status 0 when all is as it was, with --run when every episode came out the same; else 1."""
    parser = Parser("reproduce")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--run", dest="start", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.start and arguments.json:
        raise ConfigurationError("reproduce: --run or --json")
    run = run_directory(arguments.run)
    then = read_json(run.provenance)
    config = from_yaml(run.config)
    config.results, config.run = str(run.root.parent), run.root.name + AGAIN
    console = Console(highlight=False)
    quiet = Console(stderr=True, highlight=False)
    with Preparation(lambda line: say(quiet, line)) as preparation:
        try:
            evaluation = prepared(config, preparation)
            found = list(differences(run, then, evaluation))
        except VlaevalError as error:
            if arguments.start:
                raise
            found = [Difference("preparation", "went well", str(error))]
        words = _words(then, run)
        if arguments.json:
            shown = {"command": shlex.join(words), "folder": then.get("folder"), "differences": list(map(vars, found))}
            print(json.dumps(shown))
            return int(bool(found))
        _tell(console, then, words, found)
        if arguments.start:
            merged = start(evaluation, words[3:], console)
            return 0 if merged is None else _compare(console, current_merge(run), merged)
    return int(bool(found))


def differences(run: RunDirectory, then: Mapping[str, Any], evaluation: Evaluation) -> Iterator[Difference]:
    """What decides or may decide outcomes, and is not as the run's provenance has it."""
    plan = Plan.load(run.plan)
    if plan.run != evaluation.plan.run:
        yield Difference("what is evaluated", plan.run, evaluation.plan.run)
    now = json.loads(json.dumps(provenance(sys.argv, evaluation)))
    before, after = (dict(_flat({**told, "checkpoint": by_name(told.get("checkpoint") or {})})) for told in (then, now))
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield Difference(key, before.get(key), after.get(key))


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted keys; each package of an environment by itself."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        if not prefix and key in OF_THE_PLACE:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{name} ")
        elif isinstance(value, list):
            yield from ((f"{name} {item}", "there") for item in value)
        else:
            yield name, value


def _words(then: Mapping[str, Any], run: RunDirectory) -> list[str]:
    """The command that makes the run again, beside it."""
    given = then.get("overrides")
    if given is None:  # of a version that did not note them: the whole command, a sweep's for its points too
        given = [w for w in shlex.split(then["command"])[1:] if not w.endswith(("__main__.py", "bin/vlaeval_hpc"))]
    kept = [w for w in given if not w.startswith(("run=", "results="))]
    return ["python", "-m", "vlaeval_hpc", *kept, f"results={run.root.resolve().parent}", f"run={run.root.name}{AGAIN}"]


def _tell(console: Console, then: Mapping[str, Any], words: list[str], found: list[Difference]) -> None:
    from vlaeval_hpc.results.grid import Grid, print_grid

    git = then.get("git")
    if git:
        say(console, f"git checkout {git['commit']}" + ("  # and changes that were not committed" * git["modified"]))
    if then.get("folder"):
        say(console, f"cd {shlex.quote(then['folder'])}")
    say(console, shlex.join(words))
    say(console, "")
    if not found:
        say(console, "checkpoint, versions, images and config are as they were")
        return
    rows = [[d.what, *("-" if v is None else str(v) for v in (d.then, d.now))] for d in found]
    print_grid(console, Grid(["not as it was", "then", "now"], rows, left=frozenset(["not as it was", "then", "now"])))


def _compare(console: Console, then: Merged, now: Merged) -> int:
    """How many episodes came out as they did; 1 where one did not."""
    before, after = _outcomes(then), _outcomes(now)
    both = before.keys() & after.keys()
    other = sorted(key for key in both if before[key] != after[key])
    say(console, f"{len(both) - len(other)} of {len(both)} episodes have the same outcome")
    for task, episode in other[:10]:
        say(console, f"another outcome: {task} episode {episode}")
    return int(bool(other) or len(both) < len(before))


def _outcomes(merged: Merged) -> dict[tuple[str, int], Outcome]:
    return {(task["task"], e["episode_id"]): outcome(e) for task in merged["tasks"] for e in task["episodes"]}
