"""`mode=...` on the host: what is asked for, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError, unknown

MODES = ("sync", "realtime")
METRICS = {"stale_action_ratio": "mean", "effective_control_hz": "mean"}
"""What real-time mode measures of every episode beside the benchmark's metrics, in vla-eval's words."""


def mode_section(config: Config, benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan tells shards, empty for sync. Raises ConfigurationError."""
    mode = config.mode
    if mode.name not in MODES:
        raise unknown("mode", mode.name, MODES)
    if mode.name == "sync":
        return {}
    for key, value, zero in (
        ("hz", mode.hz, False),
        ("pace", mode.pace, False),
        ("latency", mode.latency, True),
        ("execute_horizon", mode.execute_horizon, False),
    ):
        if value is not None and (value < 0 or (value == 0 and not zero)):
            raise ConfigurationError(f"mode.{key}={value}: valid: {'0 and more' if zero else 'above 0'}, or null")
    if config.model.action_ensemble != "newest":
        raise ConfigurationError(
            f"model.action_ensemble={config.model.action_ensemble}: mode=realtime carries out the newest chunk: "
            "valid: newest"
        )
    if not benchmark.get("holds", True):
        raise ConfigurationError(
            f"mode=realtime: benchmark={config.benchmark.name} has no hold action (Benchmark.hold)"
        )
    return asdict(mode)
