"""What one side of a connection sends and the other expects, by component, and whether the two fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple


@dataclass(frozen=True)
class Spec:
    """One component of an action or observation, as vla-eval's HELLO carries it.

    `dims` is the length of the vector, 0 for images and text. `format` names the convention. `accepts`, on the
    consuming side, lists the formats that it converts itself.
    """

    name: str
    dims: int
    format: str
    range: Optional[Tuple[float, float]] = None
    accepts: Optional[Tuple[str, ...]] = None
    description: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """The map that HELLO carries."""
        out: Dict[str, Any] = {"name": self.name, "dims": self.dims, "format": self.format}
        if self.range is not None:
            out["range"] = list(self.range)
        if self.accepts is not None:
            out["accepts"] = sorted(self.accepts)
        if self.description:
            out["description"] = self.description
        return out

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Spec":
        """Read HELLO's map. Raises ValueError where it is none."""
        try:
            bounds = raw.get("range")
            accepts = raw.get("accepts")
            return cls(
                name=str(raw["name"]),
                dims=int(raw["dims"]),
                format=str(raw["format"]),
                range=(float(bounds[0]), float(bounds[1])) if bounds is not None else None,
                accepts=tuple(str(a) for a in accepts) if accepts is not None else None,
                description=str(raw.get("description", "")),
            )
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a spec: {type(error).__name__}: {error}") from error


Specs = Dict[str, Spec]

RGB = Spec("image", 0, "rgb_hwc_uint8")
LANGUAGE = Spec("language", 0, "language")

CODECS = ("raw", "png")
"""How images may travel: as they are, or packed without loss."""

FREE = frozenset(("any", "raw"))
"""Formats that name no convention and fit every other; vla-eval's servers write raw."""


def action_dim(specs: Mapping[str, Spec]) -> int:
    """Length of the action vector: the components in order."""
    return sum(spec.dims for spec in specs.values())


def misfits(
    policy_action: Mapping[str, Spec],
    benchmark_action: Mapping[str, Spec],
    policy_observation: Mapping[str, Spec],
    benchmark_observation: Mapping[str, Spec],
) -> List[str]:
    """Why a policy and a benchmark do not fit, a line each; empty where they do or where a side declares nothing.

    A policy whose action has a component of a free format names no parts: of what it gives only the length counts.
    """
    found = []
    if policy_action and benchmark_action:
        unnamed = any(spec.format in FREE for spec in policy_action.values())
        for key, wanted in benchmark_action.items():
            if unnamed:
                break
            if key not in policy_action:
                have = ", ".join(policy_action)
                found.append(f"action: the benchmark takes '{key}', the policy gives only {have}")
            else:
                found += _misfit("action", key, policy_action[key], wanted)
        mine, theirs = action_dim(policy_action), action_dim(benchmark_action)
        known = all(spec.dims for spec in (*policy_action.values(), *benchmark_action.values()))
        if mine != theirs and known and not found:
            found.append(f"action: the policy gives {mine} dimensions, the benchmark takes {theirs}")
    if policy_observation and benchmark_observation:
        for key, wanted in policy_observation.items():
            if key not in benchmark_observation:
                have = ", ".join(benchmark_observation)
                found.append(f"observation: the policy wants '{key}', the benchmark gives {have}")
            else:
                found += _misfit("observation", key, benchmark_observation[key], wanted)
    return found


def _misfit(kind: str, key: str, produced: Spec, consumed: Spec) -> List[str]:
    formats = consumed.accepts if consumed.accepts is not None else (consumed.format,)
    free = produced.format in FREE or consumed.format in FREE
    if produced.format not in formats and not free:
        return [f"{kind} '{key}': produced as {produced.format}, taken as {' or '.join(formats)}"]
    if consumed.accepts is None and produced.dims and consumed.dims and produced.dims != consumed.dims:
        return [f"{kind} '{key}': produced with {produced.dims} dimensions, taken with {consumed.dims}"]
    return []
