"""What a tracker is told of a run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.results.merge import Merged
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan

TRACKERS = ("wandb", "mlflow", "trackio")


@dataclass(frozen=True)
class Settings:
    """Where a tracker keeps it: `project`, of `entity`, at `uri`; offline: in files beside the run."""

    project: str
    entity: str | None = None
    uri: str | None = None
    offline: bool = True


@dataclass(frozen=True)
class Record:
    """A run as it was merged. `id` is the same for every merge of one run directory, so that the tracker's run is taken
    up again; `step` is the checkpoint's training step, 0 where it is not known."""

    id: str
    name: str
    group: str
    step: int
    config: dict[str, Any]
    metrics: dict[str, float]
    folder: Path


def check_tracker(name: str) -> None:
    """Raises ConfigurationError where there is no such tracker, or its library is not installed here."""
    if name not in TRACKERS:
        raise unknown("tracking", name, ["none", *TRACKERS])
    if importlib.util.find_spec(name) is None:
        raise ConfigurationError(f"tracking={name}: {name} is not installed: pip install 'vlaeval-hpc[{name}]'")


def log(tracker: str, settings: Settings, record: Record) -> None:
    """Tell it; raises whatever the tracker's library raises."""
    importlib.import_module(f"vlaeval_hpc.results.tracking.{tracker}").log(settings, record)


def record_of(run: RunDirectory, merged: Merged, step: int | None) -> Record:
    """What the run's files and its merged result tell. Raises ConfigurationError where there is no plan."""
    plan = Plan.load(run.plan)
    model = str(plan.model.get("name"))
    folder = run.root.resolve()
    return Record(
        id=hashlib.sha256(f"{folder.name}\0{plan.run}".encode()).hexdigest()[:16],
        name=folder.name,
        group=f"{model}_{plan.name}",
        step=step or 0,
        config={
            "model": model,
            "checkpoint": str(plan.model.get("checkpoint")),
            "benchmark": plan.name,
            "seed": plan.benchmark.get("seed"),
            "episodes": len(plan.items),
            "run": plan.run,
        },
        metrics=metrics(merged),
        folder=folder,
    )


def metrics(merged: Merged) -> dict[str, float]:
    """Means with 95 % intervals, over all and by task (`task/NAME/KEY`), episodes, errors, and what is missing."""
    found: dict[str, float] = {}
    for prefix, part in [("", merged), *((f"task/{_safe(t['task'])}/", t) for t in merged["tasks"])]:
        for key, how in merged.get("metric_keys", {}).items():
            value = part.get(f"{how}_{key}")
            if value is None:
                continue
            name = prefix + _safe(key if how == "mean" else f"{how}_{key}")
            found[name] = float(value)
            if interval := part.get(f"{how}_{key}_interval"):
                found[f"{name}_low"], found[f"{name}_high"] = map(float, interval)
    found["episodes"] = merged["num_episodes"]
    found["errors"] = merged["num_errors"]
    found["missing"] = merged.get("coverage", {}).get("missing", 0)
    return found


def _safe(name: str) -> str:
    """MLflow takes no other characters."""
    return re.sub(r"[^\w./ -]", "_", name)
