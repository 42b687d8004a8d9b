"""The statistics of the data that a checkpoint of the OpenVLA family was trained on: by them its actions get units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlaeval_hpc.errors import ConfigurationError, unknown


def checkpoint_folder(checkpoint: str | None) -> Path:
    """A folder with a config.json. Raises ConfigurationError."""
    folder = Path(checkpoint or "").expanduser()
    if not checkpoint or not (folder / "config.json").is_file():
        raise ConfigurationError(
            f"model.checkpoint={checkpoint}: valid: a folder with a config.json, hf://ORG/NAME@REVISION"
        )
    return folder


def checkpoint_files(folder: Path) -> list[Path]:
    """What a checkpoint's folder holds of its weights, settings and code."""
    kinds = (".json", ".safetensors", ".bin", ".pt", ".model", ".py", ".yaml")
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in kinds)


def statistics(folder: Path) -> dict[str, Any]:
    """{dataset: {action: {q01, q99, ...}, ...}}: those it was fine-tuned on, else those in its config.

    Raises ConfigurationError where it has none.
    """
    own = folder / "dataset_statistics.json"
    try:
        found = json.loads(own.read_text()) if own.is_file() else json.loads((folder / "config.json").read_text())
        found = found if own.is_file() else found["norm_stats"]
    except (OSError, ValueError, LookupError, TypeError):
        found = None
    if not isinstance(found, dict) or not found:
        raise ConfigurationError(f"model.checkpoint={folder}: no dataset_statistics.json, and no norm_stats in config")
    return found


def chosen(found: dict[str, Any], key: str | None) -> str:
    """The dataset that `model.params.unnorm_key` names, also as KEY_no_noops; null: the only one.

    Raises ConfigurationError.
    """
    if key is None:
        if len(found) == 1:
            return next(iter(found))
        shown = ", ".join(sorted(found)[:12])
        raise ConfigurationError(f"model.params.unnorm_key: the checkpoint knows {len(found)}: valid: {shown}")
    for name in (key, f"{key}_no_noops"):
        if name in found:
            return name
    raise unknown("model.params.unnorm_key", key, found)


def action_dim(found: dict[str, Any], key: str) -> int:
    """How many numbers an action has. Raises ConfigurationError."""
    try:
        return len(found[key]["action"]["q01"])
    except (LookupError, TypeError):
        raise ConfigurationError(f"model.params.unnorm_key={key}: its statistics have no q01 of the action") from None
