"""What a policy answers, to be compared: the same observations one session after the other, side by side, and again.

`serving check` answers a line of JSON for each question. launch.conformance asks, and compares.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.messages import Message

Actions = NDArray[np.floating[Any]]
Episode = tuple[list[Observation], dict[str, Any], int]  # what is seen, look by look; the task; the episode's seed


def alone(policy: Policy, episode: Episode) -> list[Actions]:
    """The chunks of one session, nobody else asked about."""
    return together(policy, [episode])[0]


def together(policy: Policy, episodes: list[Episode]) -> list[list[Actions]]:
    """The chunks of sessions side by side, each look of all of them in one batch."""
    sessions = [Session(f"check {i}", task=task, seed=seed) for i, (_, task, seed) in enumerate(episodes)]
    for session in sessions:
        policy.reset(session)
    found: list[list[Actions]] = [[] for _ in episodes]
    for n in range(max(len(seen) for seen, _, _ in episodes)):
        there = [i for i, (seen, _, _) in enumerate(episodes) if n < len(seen)]
        chunks = policy.predict([episodes[i][0][n] for i in there], [sessions[i] for i in there])
        for i, chunk in zip(there, chunks, strict=True):
            found[i].append(np.atleast_2d(np.asarray(chunk)))
            sessions[i].step += len(found[i][-1])
    return found


def apart(one: list[Actions], other: list[Actions]) -> float | None:
    """How far two sessions' actions are apart at most, of the larger number; None where they differ in shape."""
    if [a.shape for a in one] != [b.shape for b in other]:
        return None
    pairs = [(np.float64(a), np.float64(b)) for a, b in zip(one, other, strict=True)]
    return max(float((np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))).max()) for a, b in pairs)


def faults(policy: Policy, chunks: list[Actions]) -> list[str]:
    """Where actions are not what the spec says."""
    lengths = [spec.dims for spec in policy.action_spec.values()]
    dim = sum(lengths) if lengths and all(lengths) else None  # else it says nothing, and fits whatever is wanted
    found = []
    for chunk in chunks:
        if chunk.ndim != 2 or not len(chunk) or dim not in (None, chunk.shape[1]):
            found.append(f"actions of shape {chunk.shape}, the spec says (k, {dim or 'n'})")
        elif chunk.dtype.kind != "f":
            found.append(f"actions are {chunk.dtype}")
        elif not np.isfinite(chunk).all():
            found.append("actions are not finite")
    return list(dict.fromkeys(found))


def compare(policy: Policy, episodes: list[Episode], batch: int | None) -> dict[str, Any]:
    """What a loaded policy does with the episodes; `batch`: observations a call at most, None for all.

    `digests`: of each alone. `again`, `beside`: how far the first is from itself after the others, and each from itself
    beside the others (apart). `faults`. `seconds`: of a call with one observation, and with `batched` of them.
    """
    alone(policy, episodes[0])  # what is compiled or allocated at the first call is no part of the speed
    began = time.perf_counter()
    each = [alone(policy, episode) for episode in episodes]
    single = (time.perf_counter() - began) / sum(len(chunks) for chunks in each)
    count = min(batch or len(episodes), len(episodes))
    began = time.perf_counter()
    beside = together(policy, episodes[:count]) if count > 1 else []
    calls = max(len(seen) for seen, _, _ in episodes)
    several = (time.perf_counter() - began) / calls if count > 1 else None
    distances = [apart(one, other) for one, other in zip(each, beside, strict=False)]
    return {
        "digests": [_digest(chunks) for chunks in each],
        "again": apart(each[0], alone(policy, episodes[0])),
        "beside": None if None in distances else max((d for d in distances if d is not None), default=0.0),
        "batched": count,
        "faults": faults(policy, [chunk for chunks in each for chunk in chunks]),
        "chunk": len(each[0][0]),
        "seconds": {"single": single, "several": several},
    }


def answer(question: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """`episodes` [{folder, task, seed}], the folders holding messages of what was seen; `batch`. As `compare`, with
    `memory` and `gpu_memory` in bytes."""
    began = time.perf_counter()
    policy.load()
    loaded = time.perf_counter() - began
    episodes = [(_seen(Path(e["folder"])), e["task"], e["seed"]) for e in question["episodes"]]
    found = compare(policy, episodes, question["batch"])
    found["seconds"]["load"] = loaded
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_reserved() if torch is not None and torch.cuda.is_available() else None
    return {**found, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "gpu_memory": gpu}


def _seen(folder: Path) -> list[Observation]:
    return [Message.unpack(path.read_bytes()).payload for path in sorted(folder.iterdir())]


def _digest(chunks: list[Actions]) -> str:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(f"{chunk.dtype.str}{chunk.shape}".encode() + np.ascontiguousarray(chunk).tobytes())
    return found.hexdigest()[:20]
