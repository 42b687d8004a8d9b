"""The start of a WebSocket's frame (RFC 6455, 5.2)."""

from __future__ import annotations

import struct

BINARY, TEXT = 0x82, 0x81
"""First byte of a message that is one frame."""

MASKED = 0x80
"""In the second byte: so a client says that a mask follows."""


def header(length: int, masked: bool, first: int = BINARY) -> bytes:
    """Of a frame with so many bytes of payload; a mask is zero, which leaves them as they are."""
    flag, mask = (MASKED, bytes(4)) if masked else (0, b"")
    if length < 126:
        return struct.pack(">BB", first, flag | length) + mask
    if length < 1 << 16:
        return struct.pack(">BBH", first, flag | 126, length) + mask
    return struct.pack(">BBQ", first, flag | 127, length) + mask
