"""Hold actions: what stays where it is, for benchmarks whose actions are alike."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from vlaeval_hpc.wire.specs import Specs, action_dim


def repeat(specs: Specs, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
    """For targets: the last one again, zeros before the first."""
    return np.zeros(action_dim(specs)) if last is None else np.array(last, dtype=np.float64)


def stay(specs: Specs, last: "Optional[np.ndarray[Any, Any]]") -> "np.ndarray[Any, Any]":
    """For deltas: none, with each gripper as it was told last, open (-1) before the first."""
    action, at = np.zeros(action_dim(specs)), 0
    for name, spec in specs.items():
        if name.startswith("gripper"):
            action[at : at + spec.dims] = -1.0 if last is None else last[at : at + spec.dims]
        at += spec.dims
    return action
