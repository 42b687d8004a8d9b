"""Memory that messages are unpacked into, kept for the next."""

from __future__ import annotations

import ctypes

# mallopt(3), of glibc; other C libraries have no such call, or keep freed memory anyway.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """From now on what a message took is not given back to the kernel, which would clear each page for the next one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 16 << 20)
        mallopt(_TRIM_THRESHOLD, 64 << 20)
        mallopt(_TOP_PAD, 4 << 20)
