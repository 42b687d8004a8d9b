"""Nodes on which nothing works: told by the shards that left, kept out of what is submitted and what still waits."""

from __future__ import annotations

import json
import time
from typing import Any

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import read_json, write_json
from vlaeval_hpc.run.lock import Lock


def sick_nodes(run: RunDirectory) -> dict[str, str]:
    """The nodes that a shard of this run found sick, and why."""
    found = {}
    for path in sorted(run.shards.glob("*.sick")):
        try:
            sign = json.loads(path.read_text())
            found[str(sign["node"])] = str(sign["why"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def excluded(run: RunDirectory, exclude: Any) -> str | None:
    """What sbatch is told to exclude: the user's own list, and the sick nodes; None where there is nothing."""
    nodes = sick_nodes(run)
    return ",".join([*([str(exclude)] if exclude else []), *nodes]) or None


def decisions(run: RunDirectory) -> list[dict[str, Any]]:
    """What was decided while the run went on: {at, decision, why}, in order. Raises ConfigurationError."""
    found: list[dict[str, Any]] = read_json(run.decisions) if run.decisions.exists() else []
    return found


def decide(run: RunDirectory, decision: str, why: str) -> bool:
    """Record a decision; False where it was taken before. Raises InfrastructureError."""
    with Lock(run.root / "decisions.lock"):
        try:
            taken = decisions(run)
        except ConfigurationError:
            taken = []  # torn by nobody of ours: it is written whole
        if any(d["decision"] == decision for d in taken):
            return False
        write_json(run.decisions, [*taken, {"at": round(time.time(), 3), "decision": decision, "why": why}])
        return True
