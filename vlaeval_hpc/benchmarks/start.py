"""What a simulator draws an episode's start from."""

from __future__ import annotations

import hashlib


def start_seed(seed: int, task: str, episode: int, bits: int = 64) -> int:
    """`bits` bits, 64 at most, that (seed, task, episode) alone decide."""
    digest = hashlib.sha256(f"{seed}/{task}/{episode}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)
