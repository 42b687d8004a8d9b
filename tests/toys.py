"""Runs of the doubles, and what tests read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOY = ("--config-dir", str(Path(__file__).parent / "conf"), "model=pilot", "benchmark=toy")
"""Arguments that choose the doubles."""


def merged(folder: Path, run: str) -> dict[str, Any]:
    """A run's merged result."""
    found: dict[str, Any] = json.loads((folder / "results" / run / "merged.json").read_text())
    return found


def outcomes(result: dict[str, Any]) -> dict[tuple[str, int], tuple[Any, ...]]:
    """What must not depend on who ran an episode: (task, episode) -> metrics and steps."""
    return {
        (task["task"], e["episode_id"]): (tuple(sorted(e["metrics"].items())), e["steps"], e.get("failure_reason"))
        for task in result["tasks"]
        for e in task["episodes"]
    }


def journal(folder: Path, run: str) -> list[dict[str, Any]]:
    """Every line of every journal."""
    files = sorted((folder / "results" / run / "shards").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def points(folder: Path, sweep: str) -> dict[str, dict[str, Any]]:
    """What a sweep has of each checkpoint, by its label; nothing where it was not written yet."""
    try:
        found = json.loads((folder / "results" / "sweeps" / sweep / "sweep.json").read_text())
    except FileNotFoundError:
        return {}
    return {p["label"]: p for p in found["points"]}


def done(folder: Path, sweep: str) -> set[str]:
    """The labels of a sweep's finished points."""
    return {label for label, point in points(folder, sweep).items() if point["state"] == "done"}
