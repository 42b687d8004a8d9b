"""This machine's CPUs and GPUs, shared out fairly."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vlaeval_hpc.errors import ConfigurationError


def parse_set(key: str, text: str) -> list[int]:
    """`0-3,8` as numbers, in order, without repetition. Raises ConfigurationError, naming `key`."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ConfigurationError(f"{key}='{text}': valid: numbers and ranges, as in 0-3,8")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return list(dict.fromkeys(found))


def usable_cpus(text: str | None) -> list[int]:
    """The CPUs to use: those of `text`, all that this process may use by default."""
    allowed = sorted(os.sched_getaffinity(0))
    if text is None:
        return allowed
    wanted = parse_set("cluster.cpus", text)
    missing = [c for c in wanted if c not in allowed]
    if missing:
        raise ConfigurationError(
            f"cluster.cpus='{text}': CPU {missing[0]} is not to be had: this process may use {allowed}"
        )
    return wanted


def usable_gpus(text: str | None) -> list[str]:
    """The GPUs to use, as CUDA names them: those of `text`, else CUDA_VISIBLE_DEVICES, else all."""
    if text is not None:
        return [str(n) for n in parse_set("cluster.gpus", text)] if text.strip() else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    devices = sorted(int(p.name[6:]) for p in Path("/dev").glob("nvidia[0-9]*"))
    return [str(n) for n in range(len(devices))]


def share(cpus: list[int], shard: int, shards: int) -> list[int]:
    """A shard's part: equal blocks, apart by at most one; with more shards than CPUs, one each in turn."""
    if shards >= len(cpus):
        return [cpus[shard % len(cpus)]]
    return cpus[shard * len(cpus) // shards : (shard + 1) * len(cpus) // shards]


def in_turn(gpus: list[str], shard: int) -> list[str]:
    """The GPU of a shard, if there is one."""
    return [gpus[shard % len(gpus)]] if gpus else []


def render_variables(gpus: list[str]) -> dict[str, str]:
    """Variables by which a simulator finds something to render on: the first of `gpus`, else Mesa in software.

    What the user has set stands.
    """
    gl = "egl" if gpus else "osmesa"
    found = {"MUJOCO_GL": gl, "PYOPENGL_PLATFORM": gl}
    if gpus and gpus[0].isdigit():
        found["MUJOCO_EGL_DEVICE_ID"] = gpus[0]
    chosen = {name: os.environ.get(name, value) for name, value in found.items()}
    return {**chosen, "CUDA_VISIBLE_DEVICES": gpus[0]} if gpus else chosen


def has_nvidia() -> bool:
    """Whether this machine has a GPU that a container could be given, whatever CUDA_VISIBLE_DEVICES says."""
    return Path("/dev/nvidiactl").exists()
