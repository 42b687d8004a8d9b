"""A run's page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.excerpts import excerpts
from vlaeval_hpc.results.index import headline
from vlaeval_hpc.results.merge import Merged
from vlaeval_hpc.results.outcomes import run_outcomes
from vlaeval_hpc.results.pages.films import Films, relative
from vlaeval_hpc.results.pages.origin import differences, facts, packages, read_origin
from vlaeval_hpc.results.pages.page import render
from vlaeval_hpc.results.pages.plots import histogram, strip
from vlaeval_hpc.results.rundir import current_merge, is_open_run
from vlaeval_hpc.results.table import remarks
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_atomic

if TYPE_CHECKING:
    from vlaeval_hpc.results.comparison import PairRow

FAILURES = 30  # told in full
EXCERPTED = 100_000  # episodes of a run whose logs are searched
OUTCOMES = {"won": "success", "lost": "no success", "broke": "broken off"}


def report_path(run: RunDirectory) -> Path:
    """Where a run's page lies."""
    return run.merged.with_name("report.html")


def write_run_page(run: RunDirectory, merged: Merged) -> None:
    """Replace the run's page by that of a merged result. Raises InfrastructureError where it cannot be written."""
    write_atomic(report_path(run), run_page(run, merged))


def run_page(
    run: RunDirectory, merged: Merged | None = None, other: RunDirectory | None = None, target: Path | None = None
) -> str:
    """HTML of a run, finished or not, as its files are now; `other` is a run that it is compared with.

    It links the videos that there are, as seen from `target`, by default where report_path() puts it.

    Raises ConfigurationError where there is no plan that can be read.
    """
    found = current_merge(run) if merged is None else merged
    metric = headline(found.get("metric_keys", {}))
    rate = metric == "success"
    episodes = [(task["task"], e) for task in found["tasks"] for e in task["episodes"]]
    origin = read_origin(run)
    films = Films(run, target or report_path(run))
    return render(
        "run",
        name=run.root.resolve().name,
        merged=found,
        state="partial" if found.get("partial") else "retry" if is_open_run(found) else "done",
        metric=metric,
        rate=rate,
        total=_mean(found, metric),
        completed=_mean(found, f"{metric}_completed") if found["num_errors"] else None,
        others=[(name, found[name], how) for name, how in _aggregates(found) if name != f"mean_{metric}"],
        remarks=remarks(found),
        tasks=[_task(task, metric, films) for task in found["tasks"]],
        kinds=OUTCOMES,
        seconds=histogram([v for _, e in episodes if _number(v := e.get("elapsed_sec"))]),
        steps=histogram([v for _, e in episodes if _number(v := e.get("steps"))]),
        failures=_failures(run, episodes, films),
        more_failures=max(found["num_errors"] - FAILURES, 0),
        facts=facts(origin),
        packages=packages(origin),
        config=origin.config,
        against=None if other is None else _against(run, other, found, target or report_path(run)),
    )


def _mean(found: Mapping[str, Any], metric: str | None) -> tuple[float | None, Sequence[float] | None, int]:
    key = f"mean_{metric}"
    return found.get(key), found.get(f"{key}_interval"), found.get(f"{key}_n", 0)


def _aggregates(found: Merged) -> list[tuple[str, str]]:
    named = [(f"{how}_{key}", how) for key, how in found.get("metric_keys", {}).items()]
    return [(name, how) for name, how in named if name in found]


def _task(task: Mapping[str, Any], metric: str | None, films: Films) -> dict[str, Any]:
    mean, interval, n = _mean(task, metric)
    kinds = [outcome(episode) for episode in task["episodes"]]
    return {
        "name": task["task"],
        "mean": mean,
        "interval": interval or (None, None),
        "n": n,
        "episodes": task["num_episodes"],
        "errors": task["num_errors"],
        "strip": strip(kinds),
        "lost": ranges(e["episode_id"] for e, kind in zip(task["episodes"], kinds, strict=True) if kind == "lost"),
        "videos": [
            (e["episode_id"], kind, link)
            for e, kind in zip(task["episodes"], kinds, strict=True)
            if (link := films.link(e))
        ],
    }


def outcome(episode: Mapping[str, Any]) -> str:
    """A key of OUTCOMES."""
    if episode.get("failure_reason"):
        return "broke"
    return "won" if episode["metrics"].get("success") else "lost"


def ranges(numbers: Iterable[int]) -> str:
    """`3, 5, 8-12`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _failures(
    run: RunDirectory, episodes: Sequence[tuple[str, Mapping[str, Any]]], films: Films
) -> list[dict[str, Any]]:
    shown = [(task, e) for task, e in episodes if e.get("failure_reason")][:FAILURES]
    logs = excerpts(run, {(task, e["episode_id"]) for task, e in shown}) if len(episodes) <= EXCERPTED and shown else {}
    return [
        {
            "task": task,
            "episode": e["episode_id"],
            "reason": e["failure_reason"],
            "steps": e.get("steps", ""),
            "attempts": e.get("attempts", 1),
            "video": films.link(e),
            "detail": str(e.get("failure_detail") or "").strip(),
            "log": "\n".join(logs.get((task, e["episode_id"]), [])),
        }
        for task, e in shown
    ]


def _against(run: RunDirectory, other: RunDirectory, found: Merged, target: Path) -> dict[str, Any]:
    """The other run as the baseline; `refused` tells why the two do not pair."""
    from vlaeval_hpc.results.comparison import Comparison, compare

    name, base = run.root.resolve().name, other.root.resolve().name
    if name == base:
        base = str(other.root)
    comparison: Comparison | None = None
    refused = ""
    try:
        sides = [(base, other, current_merge(other)), (name, run, found)]
        comparison = compare([run_outcomes(n, r, m) for n, r, m in sides])
    except ConfigurationError as error:
        refused = str(error)
    return {
        "name": base,
        "refused": refused,
        "rate": comparison is not None and comparison.rate,
        "runs": comparison.runs if comparison else [],
        "pair": comparison.pairs[0] if comparison else None,
        "flips": _flips(comparison.pairs[0].flips) if comparison else [],
        "videos": _flip_videos(comparison.pairs[0], target) if comparison else [],
        "differences": differences(read_origin(run), read_origin(other)),
    }


def _flips(flips: Iterable[tuple[str, int, str]]) -> list[tuple[str, str, str]]:
    tasks: dict[str, dict[str, list[int]]] = {}
    for task, episode, how in flips:
        tasks.setdefault(task, {"gained": [], "lost": []})[how].append(episode)
    return [(task, ranges(found["gained"]), ranges(found["lost"])) for task, found in tasks.items()]


def _flip_videos(pair: PairRow, target: Path) -> list[dict[str, Any]]:
    """The flips of which there is a video, of the other run or of this one."""
    return [
        {"task": task, "episode": episode, "outcome": how, "videos": [relative(video, target) for video in videos]}
        for (task, episode, how), videos in zip(pair.flips, pair.videos, strict=False)
        if any(videos)
    ]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
