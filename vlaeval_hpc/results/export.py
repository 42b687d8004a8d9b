"""Merged results as files: JSON for machines and for vla-eval's readers, CSV for everything else."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from vlaeval_hpc.results.episodetable import write_episodes
from vlaeval_hpc.results.merge import Merged
from vlaeval_hpc.results.rundir import merge_settled
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_atomic


def merge_into_files(run: RunDirectory) -> Merged:
    """Merge a run and replace its merged.csv, episodes.parquet, merged.json and report.html.

    Raises ConfigurationError as merge_run does, InfrastructureError where they cannot be written.
    """
    from vlaeval_hpc.results.pages.run import write_run_page

    merged, plan, standing = merge_settled(run)
    write_csv_file(run.merged_csv, merged)
    write_episodes(run, plan, standing.values())
    write_json_file(run.merged, merged)
    write_run_page(run, merged)
    return merged


def write_json_file(path: Path, merged: Merged) -> None:
    """Replace `path` by `to_json`. Raises InfrastructureError where it cannot be written."""
    write_atomic(path, to_json(merged))


def write_csv_file(path: Path, merged: Merged) -> None:
    """Replace `path` by one row an episode: task, episode_id, seed, metrics, steps, elapsed_sec, failure_reason.

    True and false are 1 and 0, what is missing or not finite is empty. Raises InfrastructureError as above.
    """
    episodes = [(task["task"], e) for task in merged["tasks"] for e in task["episodes"]]
    metrics = sorted({key for _, e in episodes for key in e["metrics"]}, key=lambda key: (key != "success", key))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["task", "episode_id", "seed", *metrics, "steps", "elapsed_sec", "failure_reason"])
    for task, e in episodes:
        values = [_cell(e["metrics"].get(key)) for key in metrics]
        end = (e.get("steps"), _cell(e.get("elapsed_sec")), e.get("failure_reason"))
        writer.writerow((task, e["episode_id"], e.get("seed"), *values, *end))
    write_atomic(path, buffer.getvalue())


def to_json(merged: Merged) -> str:
    """JSON text of a merged result, an episode a line; NaN and infinity, which vla-eval writes, are null."""
    try:
        return _layout(merged)
    except ValueError:
        return _layout(_without_nan(merged))  # a look at every value is worth it only then


def _layout(merged: Merged) -> str:
    # A key a line and an episode a line: json's own indentation is pure Python, seconds over 100,000 episodes.
    head = "".join(f" {_dumps(k)}: {_dumps(v)},\n" for k, v in merged.items() if k != "tasks")
    tasks = ",\n".join("  " + _broken(_dumps(task)) for task in merged["tasks"])
    return "{\n" + head + ' "tasks": [\n' + tasks + "\n ]\n}\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _broken(task: str) -> str:
    # What is looked for cannot lie inside a string: quotes are escaped there.
    first, further = '[{"episode_id": ', '}, {"episode_id": '
    return task.replace(first, "[\n   " + first[1:]).replace(further, "},\n   " + further[3:])


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
