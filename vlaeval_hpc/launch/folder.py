"""A run directory made ready: new, or recognised as the same run's and taken up again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.run.chunks import cut
from vlaeval_hpc.run.coverage import open_items
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import read_json, write_atomic, write_json
from vlaeval_hpc.run.lock import Lock
from vlaeval_hpc.run.plan import Plan

UNDECISIVE = frozenset(("max_batch_size", "max_wait_time", "hang_timeout", "replicas", "files"))
"""What of a plan's sections may differ within a run; of `files` it is their content that counts."""


def open_run(run: RunDirectory, plan: Plan, config_yaml: str, provenance: dict[str, Any]) -> None:
    """Write plan, config and provenance, or check that those that are there are this run's.

    More tasks or episodes, or another number of shards, are the same run: what is finished stays finished. Raises
    ConfigurationError where the folder cannot be written or holds something else.
    """
    known = _check(run, plan)
    plan.leases = known.leases if known else 0
    try:
        run.create()
    except OSError as error:
        raise ConfigurationError(f"results: cannot write in {run.root}: {error.strerror}") from error
    if known is not None and known.shards != plan.shards:
        _leave_old_split(run, plan)
    if known != plan:
        plan.save(run.plan)
    write_atomic(run.config, config_yaml)
    write_json(run.provenance, _with_history(run.provenance, provenance))


def open_leases(run: RunDirectory, plan: Plan) -> None:
    """Cut what is open into chunks for the shards of an elastic run; to be called while none of them works."""
    if plan.sharding != "elastic":
        return
    table = cut(plan.items, open_items(run, plan), plan.shards * plan.simulators)
    numbers = [int(p.name) for p in run.leases.glob("*") if p.name.isdigit()]
    plan.leases = max(numbers, default=0) + 1
    folder = run.leases / str(plan.leases)
    for name in [*map(str, range(len(table.tasks))), "rest"]:
        (folder / name).mkdir(parents=True)
    table.save(folder / "table.json")
    plan.save(run.plan)


def _check(run: RunDirectory, plan: Plan) -> Plan | None:
    """The plan that is there. Raises ConfigurationError where it, or whatever else is there, is not this run's."""
    if run.plan.exists():
        known = Plan.load(run.plan)
        if known.run != plan.run:
            raise ConfigurationError(
                f"{run.root} holds a different run: {_difference(known, plan)}: choose another run= or results="
            )
        return known
    if run.root.exists():
        if not run.root.is_dir():
            raise ConfigurationError(f"{run.root}: not a folder")
        foreign = next((p for p in run.root.iterdir() if not p.name.startswith(".")), None)
        if foreign is not None and {p.name for p in run.root.iterdir()} - {"logs", "server", "shards"}:
            raise ConfigurationError(f"{run.root} holds no run, but {foreign.name}: choose another run= or results=")
    above = next(p for p in [run.root, *run.root.absolute().parents] if p.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigurationError(f"results: cannot write in {above}")
    return None


def _difference(known: Plan, plan: Plan) -> str:
    for section in ("benchmark", "model"):
        before, now = getattr(known, section), getattr(plan, section)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key) and key not in UNDECISIVE:
                return f"{section}.{key} is {json.dumps(before.get(key))} there, {json.dumps(now.get(key))} here"
    return "the checkpoint's content has changed"


def _leave_old_split(run: RunDirectory, plan: Plan) -> None:
    """Remove the result files of another number of shards: their journals, which stay, hold all they say.

    Raises ConfigurationError where a shard of it is still running.
    """
    current = f"of{plan.shards}."
    for lock in run.shards.glob("*.lock"):
        if current not in lock.name:
            try:
                with Lock(lock):
                    pass
            except InfrastructureError as error:
                raise ConfigurationError(f"the number of shards cannot change while one runs: {error}") from error
    for pattern in ("*.json", "*.progress"):
        for path in run.shards.glob(pattern):
            if current not in path.name:
                path.unlink(missing_ok=True)


def _with_history(path: Path, provenance: dict[str, Any]) -> dict[str, Any]:
    """The first start's provenance, and each later one's under `resumed`."""
    if not path.exists():
        return provenance
    first: dict[str, Any] = read_json(path)
    return {**first, "resumed": [*first.get("resumed", []), provenance]}
