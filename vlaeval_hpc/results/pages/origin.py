"""Where a run's number comes from, and what differs from another run's origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import read_json

UNLIKE = frozenset(("created_at", "command", "schema", "resumed", "results", "run", "overrides", "folder"))
"""What differs between any two runs."""


class Difference(NamedTuple):
    """A value that two runs do not share; empty where one has none."""

    name: str
    mine: str
    theirs: str


class Origin(NamedTuple):
    """What provenance.json and config.yaml of a run hold; empty where they are not there."""

    provenance: dict[str, Any]
    config: str


def read_origin(run: RunDirectory) -> Origin:
    """Read both files; what cannot be read is left out."""
    try:
        found = read_json(run.provenance)
    except ConfigurationError:
        found = {}
    try:
        config = run.config.read_text(encoding="utf-8")
    except (OSError, ValueError):
        config = ""
    return Origin(found if isinstance(found, dict) else {}, config)


def facts(origin: Origin) -> list[tuple[str, str]]:
    """Names and values for a table: when, where, by which versions, in which environments, from which weights."""
    found = origin.provenance
    rows = [(name, found.get(key)) for name, key in (("command", "command"), ("started", "created_at"))]
    rows += [("host", found.get("host")), ("platform", found.get("platform")), ("python", found.get("python"))]
    rows.append(("vlaeval_hpc", found.get("vlaeval_hpc")))
    git = found.get("git") or {}
    if git:
        rows.append(("git commit", str(git.get("commit")) + (" and changes" if git.get("modified") else "")))
    rows.append(("packages", _listed(found.get("packages") or {})))
    for side, environment in (found.get("environments") or {}).items():
        if "image" in environment:
            rows += [(f"{side} image", environment["image"]), (f"{side} source", environment.get("source"))]
            rows.append((f"{side} digest", environment.get("digest")))
        else:
            rows.append((f"{side} python", environment.get("python")))
    rows += [(f"checkpoint {name}", value) for name, value in (found.get("checkpoint") or {}).items()]
    rows += [(f"checkpoint {name}", value) for name, value in (found.get("checkpoint_source") or {}).items()]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def by_name(files: Mapping[str, str]) -> dict[str, str]:
    """Hashes of a checkpoint's files by what is left of their paths without the folder that all are in: a checkpoint
    that moved is the same."""
    folder = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
    return {os.path.relpath(path, folder or "."): content for path, content in files.items()}


def packages(origin: Origin) -> dict[str, list[str]]:
    """What each environment that is no image holds."""
    sides = (origin.provenance.get("environments") or {}).items()
    return {side: environment["packages"] for side, environment in sides if environment.get("packages")}


def differences(mine: Origin, theirs: Origin) -> list[Difference]:
    """Values of config and provenance that the two do not share, by dotted name."""
    here, there = dict(_flat(_values(mine))), dict(_flat(_values(theirs)))
    names = [*here, *(name for name in there if name not in here)]
    return [
        Difference(name, here.get(name, ""), there.get(name, ""))
        for name in names
        if here.get(name) != there.get(name) and name not in UNLIKE
    ]


def _values(origin: Origin) -> dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(origin.config)
    except yaml.YAMLError:
        config = None
    rest = {key: value for key, value in origin.provenance.items() if key not in UNLIKE}
    if rest.get("checkpoint"):
        rest["checkpoint"] = by_name(rest["checkpoint"])
    # Lists of packages are long and alike: a name each says which one differs.
    for side, listed in packages(origin).items():
        named = {name: version for name, _, version in (text.rpartition("-") for text in listed)}
        rest["environments"] = {**rest["environments"], side: {**rest["environments"][side], "packages": named}}
    return {**(config if isinstance(config, dict) else {}), "provenance": rest}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
