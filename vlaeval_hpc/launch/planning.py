"""The plan of a run: what is checked, which episodes, under which name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.launch.cache import digest
from vlaeval_hpc.launch.realtime import METRICS, mode_section
from vlaeval_hpc.launch.recording import recording_section
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.wire.specs import CODECS, Spec, misfits

SHARDINGS = ("static", "elastic")
Description = Mapping[str, Any]


def check_numbers(config: Config) -> None:
    """Raises ConfigurationError for a number that makes no sense, before anything is prepared."""
    if config.sharding not in SHARDINGS:
        raise unknown("sharding", config.sharding, SHARDINGS)
    for key, value, least in (
        ("cluster.shards", config.cluster.shards, 1),
        ("cluster.simulators", config.cluster.simulators, 1),
        ("benchmark.episodes_per_task", config.benchmark.episodes_per_task, 1),
        ("benchmark.max_tasks", config.benchmark.max_tasks, 1),
        ("benchmark.max_steps", config.benchmark.max_steps, 1),
        ("model.max_batch_size", config.model.max_batch_size, 1),
        ("model.chunk_size", config.model.chunk_size, 1),
        ("cluster.restarts", config.cluster.restarts, 0),
        ("recording.every", config.recording.every, 1),
    ):
        if value is not None and value < least:
            raise ConfigurationError(f"{key}={value}: valid: {least} and more")


def check_fit(benchmark: Description, policy: Description, config: Config) -> None:
    """Raises ConfigurationError where the policy cannot be evaluated on the benchmark."""
    specs = {
        f"{who}_{key}": {k: Spec.from_dict(v) for k, v in found[key].items()}
        for who, found in (("benchmark", benchmark), ("policy", policy))
        for key in ("action_spec", "observation_spec")
    }
    wrong = misfits(
        specs["policy_action_spec"],
        specs["benchmark_action_spec"],
        specs["policy_observation_spec"],
        specs["benchmark_observation_spec"],
    )
    if wrong:
        raise ConfigurationError(
            f"model={config.model.name} does not fit benchmark={config.benchmark.name}: {'; '.join(wrong)}"
        )


def make_plan(config: Config, benchmark: Description, policy: Description | None) -> Plan:
    """The plan of an evaluation; `policy` is None for a server that is there already.

    Raises ConfigurationError for tasks that the benchmark does not have.
    """
    chosen = config.benchmark
    tasks = chosen_tasks(config, benchmark["tasks"])
    episodes = chosen.episodes_per_task or benchmark["episodes_per_task"]
    most = benchmark["max_episodes"]
    if most is not None and episodes > most:
        raise ConfigurationError(f"benchmark.episodes_per_task={episodes}: {chosen.name} has {most} a task")
    observe = chosen.observe
    if observe is not None:
        for name in observe:
            if name not in benchmark["observation_spec"]:
                raise unknown("benchmark.observe", name, benchmark["observation_spec"])
    if config.server.codec not in CODECS:
        raise unknown("server.codec", config.server.codec, CODECS)
    section = {
        "target": chosen.target,
        "params": chosen.params,
        "seed": chosen.seed,
        "observe": observe,
        "max_steps": chosen.max_steps or benchmark["max_steps"],
    }
    mode = mode_section(config, benchmark)
    metrics = {**benchmark["metrics"], **(METRICS if mode else {})}
    items = [Item(t["name"], e, chosen.seed) for t in tasks for e in range(episodes)]
    return Plan(
        run=digest([section, _policy_identity(config, policy), *([mode] if mode else [])]),
        name=_file_name(chosen.name, chosen.params),
        shards=min(config.cluster.shards, len(items)),
        simulators=config.cluster.simulators,
        sharding=config.sharding,
        items=items,
        tasks=tasks,
        benchmark={
            **section,
            "metrics": metrics,
            "hang_timeout": chosen.hang_timeout,
            "expected": observe or (list(policy["observation_spec"]) if policy else []),
        },
        model={
            **{k: v for k, v in asdict(config.model).items() if k != "environment"},
            **({"files": policy["files"]} if policy else {}),
        },
        server={k: v for k, v in asdict(config.server).items() if k != "url"},
        mode=mode,
        recording=recording_section(config.recording, benchmark["observation_spec"]),
        config={"params": {**chosen.params, "seed": chosen.seed}, **asdict(chosen)} | {"name": chosen.name},
    )


def run_name(config: Config, plan: Plan) -> str:
    """A folder name that the same evaluation gets again: model, checkpoint, benchmark, and a hash of all of it."""
    model = config.model.name
    if config.model.checkpoint is not None:
        model += "-" + _short(str(config.model.checkpoint))
    identity = digest([plan.run, [i._asdict() for i in plan.items]])[:8]
    return safe_name(f"{model}_{plan.name}_{identity}")


def _short(checkpoint: str) -> str:
    """A checkpoint's name in a folder's: its last part, or the hub's where that is a commit."""
    path = Path(checkpoint)
    return path.parent.name if re.match(r"[0-9a-f]{40}", path.name) else path.name.removesuffix(".npz")


def chosen_tasks(config: Config, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the config names. Raises ConfigurationError for one that the benchmark does not have."""
    wanted = config.benchmark.tasks
    if wanted is not None:
        names = {str(t["name"]) for t in tasks}
        suites = {str(t["suite"]) for t in tasks if "suite" in t}
        for name in wanted:
            if name not in names | suites:
                raise unknown("task", name, names | suites)
        tasks = [t for t in tasks if t["name"] in wanted or t.get("suite") in wanted]
    if not tasks:
        raise ConfigurationError("benchmark.tasks: no task is left")
    return tasks[: config.benchmark.max_tasks]


def _policy_identity(config: Config, policy: Description | None) -> dict[str, Any]:
    """What decides the policy's answers. Batching does not: an answer must not depend on it (policies.base).

    Where a server that runs already listens tells what it serves only where model.checkpoint does not: one that has a
    name may move.
    """
    model = config.model
    named = model.checkpoint is not None
    if policy is None:
        return {"server": str(model.checkpoint)} if named and model.target is None else {"url": config.server.url}
    unsaid = set(policy.get("connection", ())) - (set() if named else {"url"})
    return {
        "target": model.target,
        "params": {key: value for key, value in model.params.items() if key not in unsaid},
        # The content where it can be hashed: a checkpoint that moved is the same, one that was overwritten is not.
        "checkpoint": sorted(policy["checkpoint"].values()) or str(model.checkpoint),
        "chunk_size": model.chunk_size,
        "action_ensemble": model.action_ensemble,
        **({"ema_alpha": model.ema_alpha} if model.action_ensemble == "ema" else {}),
    }


def _file_name(name: str, params: Mapping[str, Any]) -> str:
    """What starts the shard files' names: the benchmark, and the suite where it has several."""
    suite = str(params.get("suite") or name)
    return safe_name(suite if suite.startswith(name) else f"{name}_{suite}")


def safe_name(name: str) -> str:
    """The name with what a file's name should not hold as underscores."""
    return re.sub(r"[^\w.-]", "_", name)
