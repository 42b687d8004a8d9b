"""Whether a benchmark's and a policy's adapter keep what they promise: asked of fresh processes, and compared."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.description import Described, describe_benchmark
from vlaeval_hpc.launch.finding import OK, PROBLEM, Finding
from vlaeval_hpc.launch.machine import has_nvidia, render_variables, usable_gpus
from vlaeval_hpc.launch.planning import check_fit, chosen_tasks
from vlaeval_hpc.launch.roles import checkpoint_binds
from vlaeval_hpc.launch.runtime import Runtime

EVERY = 8  # steps between two looks, where it is not each step
ROUNDING = 1e-2  # of the larger number: what a GPU's bfloat16 makes of another order of sums
FEW = 3  # what of a list is shown

Say = Callable[[Finding], None]


def check_benchmark(config: Config, runtime: Runtime, steps: int, keep: Path | None, say: Say) -> list[dict[str, Any]]:
    """Check the benchmark by two episodes of `steps` random actions; `say` hears each finding.

    The episodes [{folder, task, seed}], whose observations `keep` gets where it is given. Raises ConfigurationError
    where the benchmark cannot be made or played at all.
    """
    gpus = usable_gpus(config.cluster.gpus)[:1]
    described = describe_benchmark(config.benchmark, runtime)
    tasks = chosen_tasks(config, described["tasks"])
    later = 1 if (described["max_episodes"] or 2) > 1 else 0
    first, second = (tasks[0], 0), (tasks[min(1, len(tasks) - 1)], later)
    names = list(described["observation_spec"])
    cameras = [k for k in names if "rgb" in described["observation_spec"][k]["format"]]

    def asked(episodes: Sequence[Any], select: list[str] = names, keep: Path | None = None) -> dict[str, Any]:
        with Described(
            runtime, "vlaeval_hpc.worker", "benchmark", "check", render_variables(gpus), bool(gpus) and has_nvidia()
        ) as process:
            section = {k: getattr(config.benchmark, k) for k in ("target", "params", "seed")}
            question = {"benchmark": section, "select": select, "steps": steps, "episodes": episodes}
            kept = {"keep": str(keep)} if keep else {}
            return process.ask({**question, **kept}, [str(keep)] if keep else [])

    # The first is alone on the machine: it is timed.
    used = asked([[*first, 1], [*second, 1], [*first, 1], None, [*first, 1]], keep=keep)
    with ThreadPoolExecutor(min(3, os.cpu_count() or 1)) as pool:
        fresh, other, blind = pool.map(
            asked,
            ([[*first, 1], [*first, EVERY]], [[*second, 1]], [[*first, EVERY]]),
            (names, names, [k for k in names if k not in cameras]),
        )
    for finding in benchmark_findings(cameras, used, fresh, other, blind):
        say(finding)
    episodes = [
        {"task": {**task, "episode_idx": episode}, "seed": n} for n, (task, episode) in enumerate((first, second))
    ]
    return [{"folder": str(keep / str(n)), **e} for n, e in enumerate(episodes)] if keep else []


def benchmark_findings(
    cameras: list[str], used: dict[str, Any], fresh: dict[str, Any], other: dict[str, Any], blind: dict[str, Any]
) -> Iterator[Finding]:
    """What four processes' plays say: X Y X, closed, X · X, X looked at now and then · Y · X without `cameras`, so."""
    x, y, x_again, x_closed = used["plays"]
    alone, lazy = fresh["plays"]
    (y_alone,), (unseen,) = other["plays"], blind["plays"]
    played = f"{len(x['looks']) - 1} steps"
    faults = [f for p in (*used["plays"], lazy, unseen) for f in p["faults"]]
    yield _finding("spec", faults, "observations, results and ends are as declared")
    yield _finding("determinism", _differs(x, alone), f"a fresh process: the same {played}")
    leaks = [
        *(f"after nothing: {d}" for d in _differs(y, y_alone)),
        *(f"once more: {d}" for d in _differs(x, x_again)),
        *(f"after close: {d}" for d in _differs(x, x_closed)),
    ]
    yield _finding("reset", leaks, "an episode after others, and after close, is as alone")
    yield _finding("lazy frames", _differs(lazy, _every(alone)), f"looked at each {EVERY}th step: the same")
    if cameras:
        yield _finding("without cameras", _differs(unseen, _every(alone), "images."), "states and result are the same")
        still = [c for c in cameras if len({look.get(f"images.{c}") for look in x["looks"]}) == 1]
        yield _finding("frames", [f"{c} shows the same all the time" for c in still], "every camera sees motion")
    times, bare = x_again["seconds"], unseen["seconds"]["step"]
    looks = f", {times['look'] * 1000:.1f} ms with a look at everything" if times["look"] else ""
    yield Finding("speed", OK, f"reset {times['reset']:.2f} s; a step {_milliseconds(bare)}{looks}")
    yield Finding("memory", OK, _size(max(p["memory"] for p in (used, fresh, other, blind))))


def check_policy(config: Config, runtime: Runtime, episodes: list[dict[str, Any]], say: Say) -> None:
    """Check the policy by what was seen in the benchmark's `episodes`; `say` hears each finding.

    Raises ConfigurationError where the policy cannot be made, loaded or asked.
    """
    # Each twice, with another seed: what a policy draws must be the session's own.
    sessions = [*episodes, *({**e, "seed": e["seed"] + len(episodes)} for e in episodes)]
    binds = [str(Path(episodes[0]["folder"]).parent), *checkpoint_binds(config.model.checkpoint)]
    gpus = usable_gpus(config.cluster.gpus)
    question = {"model": asdict(config.model), "episodes": sessions, "batch": config.model.max_batch_size}
    answers = []
    for _ in range(2):
        variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        with Described(
            runtime, "vlaeval_hpc.serving", "model", "check", variables, bool(gpus) and has_nvidia()
        ) as process:
            answers.append(process.ask(question, binds))
    for finding in policy_findings(*answers):
        say(finding)


def policy_findings(found: dict[str, Any], fresh: dict[str, Any]) -> Iterator[Finding]:
    """What two processes' answers say."""
    seconds = found["seconds"]
    yield _finding("policy spec", found["faults"], f"chunks of {found['chunk']} actions, as declared")
    same = found["digests"] == fresh["digests"]
    yield _finding(
        "policy determinism", [] if same else ["a fresh process answers differently"], "a fresh process: the same"
    )
    again = found["again"]
    yield _finding(
        "sessions", _apart(again, "a session after others"), f"a session after others is as before{_rounded(again)}"
    )
    if found["batched"] > 1:
        beside, count = found["beside"], found["batched"]
        yield _finding(
            "batching", _apart(beside, f"{count} in a batch"), f"{count} in a batch are as alone{_rounded(beside)}"
        )
    else:
        yield Finding("batching", OK, "one observation a call (model.max_batch_size=1)")
    several = f", {seconds['several']:.3f} s with {found['batched']}" if seconds["several"] else ""
    yield Finding("policy speed", OK, f"loaded in {seconds['load']:.1f} s; a call {seconds['single']:.3f} s{several}")
    gpu = f", on the GPU {_size(found['gpu_memory'])}" if found["gpu_memory"] else ""
    yield Finding("policy memory", OK, _size(found["memory"]) + gpu)


def check_pair(config: Config, benchmark: Runtime, model: Runtime, say: Say) -> None:
    """Check that the policy takes what the benchmark gives, and the other way round."""
    with Described(model, "vlaeval_hpc.serving", "model") as process:
        policy = process.ask({"model": asdict(config.model)}, checkpoint_binds(config.model.checkpoint))
    try:
        check_fit(describe_benchmark(config.benchmark, benchmark), policy, config)
    except ConfigurationError as error:
        say(Finding("fit", PROBLEM, str(error)))
    else:
        say(Finding("fit", OK, f"{config.model.name} takes what {config.benchmark.name} gives"))


def kept_folder() -> tempfile.TemporaryDirectory[str]:
    """Where observations go from the benchmark's processes to the policy's."""
    return tempfile.TemporaryDirectory(prefix="vlaeval_hpc-", ignore_cleanup_errors=True)


def _finding(name: str, wrong: list[str], good: str) -> Finding:
    if not wrong:
        return Finding(name, OK, good)
    told = list(dict.fromkeys(wrong))
    more = f"; {len(told) - FEW} more" if len(told) > FEW else ""
    return Finding(name, PROBLEM, "; ".join(told[:FEW]) + more)


def _every(play: dict[str, Any]) -> dict[str, Any]:
    """An episode that was looked at each step, as one that was looked at now and then."""
    return {**play, "looks": play["looks"][::EVERY]}


def _differs(one: dict[str, Any], other: dict[str, Any], without: str = "\0") -> list[str]:
    """Where two plays differ, but for what starts with `without`: the first look and name, the end, the result."""
    for n, (mine, theirs) in enumerate(zip(one["looks"], other["looks"], strict=False)):
        names = [k for k in {**mine, **theirs} if not k.startswith(without)]
        wrong = [k for k in names if mine.get(k) != theirs.get(k)]
        if wrong:
            return [f"{', '.join(wrong)} differ at look {n}"]
    for key in ("ended", "result"):
        if one[key] != other[key]:
            return [f"{key}: {one[key]} and {other[key]}"]
    return []


def _apart(distance: float | None, what: str) -> list[str]:
    if distance is None:
        return [f"{what}: chunks of other shapes"]
    return [f"{what}: actions differ by {distance:.2g}"] if distance > ROUNDING else []


def _rounded(distance: float | None) -> str:
    return f", but for {distance:.1g} of rounding" if distance else ""


def _milliseconds(seconds: float | None) -> str:
    return f"{seconds * 1000:.1f} ms, {1 / seconds:.0f} a second" if seconds else "was never taken without a look"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
