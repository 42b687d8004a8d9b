"""vla-eval's benchmark YAMLs, read as ours: what one says fills what is not said here."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import BenchmarkConfig, EnvironmentConfig, ModeConfig
from vlaeval_hpc.errors import ConfigurationError, unknown

TARGET = "vlaeval_hpc.benchmarks.vla_eval:VLAEval"

_IMAGES = re.compile(r"(docker://)?ghcr\.io/(allenai|worv-ai)/vla-evaluation-harness/([\w-]+)")
_CONDA = {
    "behavior1k": "behavior",
    "libero-mem": "libero_mem",
    "libero-plus": "libero",
    "libero-pro": "libero",
    "mikasa-robo": "mikasa",
    "robocerebra": "libero",
    "robodojo": "RoboDojo",
    "simpler-groot": "simpler",
    "simpler-xvla": "simpler",
}
"""The conda environments of vla-eval's images that are not called as the image is (its docker/Dockerfile.*)."""

MODES = ("sync", "live", "realtime")  # the last as vla-eval 0.2 called it

_LICENSES = {"vla_eval.benchmarks.behavior1k.": {"behavior-dataset-tos": "https://behavior.stanford.edu/dataset"}}
"""What its classes ask a terminal before they fetch their data."""


def with_vla_eval(benchmark: BenchmarkConfig) -> BenchmarkConfig:
    """The benchmark, with `params.config`, a YAML of vla-eval's, read in. Raises ConfigurationError.

    Taken are the evaluations (`benchmarks`), which must be of one class, the `render` mode, and of `docker` the image,
    volumes and variables. What the config here names goes before; `server`, `output_dir`, `recording` and `tracking`
    have their own places.
    """
    if benchmark.target != TARGET:
        return benchmark
    params = dict(benchmark.params)
    path, entry = params.pop("config", None), params.pop("entry", None)
    environment = benchmark.environment
    if path is not None:
        found = _load(Path(str(path)))
        entries = _chosen(found.get("benchmarks") or [], entry, str(path))
        kind = _same(entries, "benchmark", str(path))
        alone = len(entries) == 1
        own = {_name(e): dict(e.get("params") or {}) for e in entries}
        given = {k: v for k, v in params.items() if v is not None}
        more = next(iter(own.values())) if alone else {"variants": own}
        said = {"benchmark": kind, "render": found.get("render"), **more}
        params = {**{k: v for k, v in said.items() if v is not None}, **given}
        benchmark = replace(
            benchmark,
            episodes_per_task=benchmark.episodes_per_task or _same(entries, "episodes_per_task", str(path)),
            max_steps=benchmark.max_steps or _same(entries, "max_steps", str(path)),
            tasks=benchmark.tasks or (entries[0].get("tasks") if alone else None),
            max_tasks=benchmark.max_tasks or (entries[0].get("max_tasks") if alone else None),
        )
        environment = _with_docker(environment, found.get("docker") or {})
    elif entry is not None:
        raise ConfigurationError("benchmark.params.entry: one of what? valid with benchmark.params.config=FILE")
    for start, named in _LICENSES.items():
        if str(params.get("benchmark")).startswith(start):
            benchmark = replace(benchmark, licenses={**named, **benchmark.licenses})
    # What a policy's randomness starts from is the same seed.
    seed = int(params.pop("seed", benchmark.seed))
    return replace(benchmark, params=params, seed=seed, environment=_with_python(environment))


def mode_of_vla_eval(benchmark: BenchmarkConfig, mode: ModeConfig) -> ModeConfig:
    """How time passes: by a YAML of vla-eval's (`mode: live`, `hz`, `paced`, `wait_first_action`) where the config here
    does not say mode=realtime itself. Raises ConfigurationError."""
    path = benchmark.params.get("config")
    if benchmark.target != TARGET or path is None or mode.name != "sync":
        return mode
    entries = _chosen(_load(Path(str(path))).get("benchmarks") or [], benchmark.params.get("entry"), str(path))
    if _same(entries, "mode", str(path)) in (None, "sync"):
        return mode
    hz, paced, first = (_same(entries, key, str(path)) for key in ("hz", "paced", "wait_first_action"))
    return ModeConfig(
        name="realtime",
        hz=10.0 if hz is None else float(hz),
        pace=None if paced is False else 1.0,
        wait_first_action=bool(first),
    )


def _load(path: Path) -> dict[str, Any]:
    """The file, upon what it extends, with its interpolations resolved."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        read: list[Any] = []
        place = path
        while True:
            read.append(OmegaConf.to_container(OmegaConf.load(place)))
            base = read[-1].pop("extends", None) if isinstance(read[-1], dict) else None
            if base is None:
                break
            if len(read) > 20:
                raise ConfigurationError(f"benchmark.params.config={path}: it extends itself")
            place = place.parent / str(base)
        found = OmegaConf.to_container(OmegaConf.merge(*reversed(read)), resolve=True)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigurationError(f"benchmark.params.config={path}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found.get("benchmarks"):
        raise ConfigurationError(f"benchmark.params.config={path}: no `benchmarks` in it: is it vla-eval's?")
    return {str(k): v for k, v in found.items()}


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("subname") or entry.get("name") or str(entry.get("benchmark")).rpartition(":")[2])


def _chosen(entries: list[dict[str, Any]], wanted: Any, path: str) -> list[dict[str, Any]]:
    names = [_name(entry) for entry in entries]
    if wanted is not None:
        if str(wanted).isdigit() and int(wanted) < len(entries):
            entries = [entries[int(wanted)]]
        elif str(wanted) in names:
            entries = [entries[names.index(str(wanted))]]
        else:
            raise unknown("benchmark.params.entry", str(wanted), names)
    elif len(set(names)) < len(names):
        raise ConfigurationError(
            f"benchmark.params.config={path}: evaluations of one name: benchmark.params.entry=0 is the first of them"
        )
    for entry in entries:
        if entry.get("mode", "sync") not in MODES:
            raise ConfigurationError(
                f"benchmark.params.config={path}: '{_name(entry)}' has mode {entry['mode']}: valid: {', '.join(MODES)}"
            )
    return entries


def _same(entries: list[dict[str, Any]], key: str, path: str) -> Any:
    """What all of the evaluations say of `key`."""
    values = [entry.get(key) for entry in entries]
    if any(value != values[0] for value in values):
        raise ConfigurationError(
            f"benchmark.params.config={path}: its evaluations differ in {key}: benchmark.params.entry chooses one: "
            f"{', '.join(_name(entry) for entry in entries)}"
        )
    return values[0]


def _with_docker(environment: EnvironmentConfig, docker: dict[str, Any]) -> EnvironmentConfig:
    image = docker.get("image")
    variables = {}
    for line in docker.get("env") or []:
        key, has, value = str(line).partition("=")
        variables[key] = value if has else os.environ.get(key, "")
    return replace(
        environment,
        image=environment.image or (f"docker://{image}" if image else None),
        binds=[*(str(v) for v in docker.get("volumes") or []), *environment.binds],
        variables={**variables, **environment.variables},
    )


def _with_python(environment: EnvironmentConfig) -> EnvironmentConfig:
    """vla-eval's images keep their Python in a conda environment that is not on the PATH."""
    known = _IMAGES.match(environment.image or "")
    if environment.kind != "image" or environment.python or known is None:
        return environment
    name = known[3]
    return replace(environment, python=f"/opt/conda/envs/{_CONDA.get(name, name)}/bin/python")
