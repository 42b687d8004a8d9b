"""Torch's random numbers, drawn for each session by itself: neither the batch nor the device changes them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from vlaeval_hpc.policies.base import Session


def seed_of(session: Session) -> int:
    """What the noise of the session's next chunk starts from: the episode's seed and the step."""
    return int(np.random.default_rng([session.seed, session.step]).integers(1 << 62))


def own_noise(sessions: Sequence[Session]) -> AbstractContextManager[Any]:
    """While it is open, row i of what torch draws for a batch of this size comes from session i's own generator.

    That of torch.randn, rand, randn_like, rand_like and normal (of numbers), whose first axis is the batch. One session
    alone gets what torch would draw for it on the CPU after torch.manual_seed(seed_of(session)).
    """
    import torch
    from torch.overrides import TorchFunctionMode

    generators = [torch.Generator().manual_seed(seed_of(session)) for session in sessions]
    uniform, normal = (torch.rand, torch.rand_like), (torch.randn, torch.randn_like, torch.normal)

    class Rows(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = function(*args, **(kwargs or {}))
            if function not in (*uniform, *normal) or given.ndim == 0 or len(given) != len(generators):
                return given
            draw = torch.rand if function in uniform else torch.randn
            rows = [draw(given.shape[1:], generator=g, dtype=given.dtype) for g in generators]
            drawn = torch.stack(rows).to(given.device)
            if function is torch.normal:
                mean, std = ((args[i] if len(args) > i else kwargs[k]) for i, k in enumerate(("mean", "std")))
                drawn = mean + std * drawn
            return drawn

    return Rows()
