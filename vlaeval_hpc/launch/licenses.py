"""Licences that a benchmark's data is under: agreed to by a person, once, before anything starts."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.cache import cache_folder
from vlaeval_hpc.run.files import write_json

ACCEPTED = "VLA_EVAL_ACCEPTED_LICENSES"  # by which vla-eval's classes ask nobody


def with_licenses(config: Config) -> Config:
    """The config, telling the benchmark's processes which licences were agreed to.

    accept_license=true agrees to those that the benchmark names, and is remembered in the user's cache. Raises
    ConfigurationError for one that was not agreed to: no job of an array asks anybody.
    """
    wanted = config.benchmark.licenses
    if not wanted:
        return config
    place = cache_folder() / "licenses.json"
    known = _read(place)
    missing = [name for name in wanted if name not in known]
    if missing and not config.accept_license:
        raise ConfigurationError(
            f"benchmark={config.benchmark.name} needs you to agree to a licence, '{missing[0]}': read"
            f" {wanted[missing[0]]}, then accept_license=true, once (it is remembered in {place})"
        )
    if missing:
        today = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        write_json(place, {**known, **{name: {"where": wanted[name], "accepted_at": today} for name in missing}})
    environment = config.benchmark.environment
    variables = {ACCEPTED: ",".join(sorted(wanted)), **environment.variables}
    return replace(config, benchmark=replace(config.benchmark, environment=replace(environment, variables=variables)))


def _read(place: Path) -> dict[str, object]:
    try:
        found = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
