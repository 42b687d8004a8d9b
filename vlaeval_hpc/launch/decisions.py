"""decisions.json: what was decided while a run went on, and why, in order."""

from __future__ import annotations

import time
from typing import Any

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import read_json, write_json
from vlaeval_hpc.run.lock import Lock


def decisions(run: RunDirectory) -> list[dict[str, Any]]:
    """Each as {at, decision, why, ...}, in order; none where the file cannot be read."""
    try:
        found: list[dict[str, Any]] = read_json(run.decisions)
    except ConfigurationError:
        return []
    return [d for d in found if isinstance(d, dict) and "decision" in d] if isinstance(found, list) else []


def decide(run: RunDirectory, decision: str, why: str, **details: Any) -> bool:
    """Record a decision; False where the same was taken before. Raises InfrastructureError."""
    with Lock(run.root / "decisions.lock"):
        taken = decisions(run)
        if any(d["decision"] == decision for d in taken):
            return False
        told = {"at": round(time.time(), 3), "decision": decision, "why": why, **details}
        write_json(run.decisions, [*taken, told])
        return True
