"""Evaluate Vision-Language-Action policies on simulation benchmarks, on one machine or a Slurm cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlaeval_hpc.inprocess import evaluate as evaluate

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`evaluate`, imported when it is asked for: what runs in images takes nothing of it."""
    if name == "evaluate":
        from vlaeval_hpc.inprocess import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
