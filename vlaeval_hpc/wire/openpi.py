"""openpi's messages: msgpack maps in which an array is a map with bytes keys (openpi-client 0.1.2, msgpack_numpy)."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from vlaeval_hpc.wire import codec
from vlaeval_hpc.wire.codec import Piece, WireError


def encode(message: Dict[str, Any]) -> bytes:
    """Pack a map of plain values and numpy arrays. Raises TypeError for what cannot be sent."""
    return codec.encode(message, _array_map)


def decode(data: Piece) -> Dict[str, Any]:
    """Unpack a map, within codec's bounds; arrays are read-only. Raises WireError, whatever the bytes are."""
    found = codec.decode(data, _Reader)
    if not isinstance(found, dict):
        raise WireError(f"not a message of openpi: a {type(found).__name__}, no map")
    return found


def _array_map(value: "np.ndarray[Any, Any]") -> Dict[bytes, Any]:
    return {
        b"__ndarray__": True,
        b"data": codec.array_data(value),
        b"dtype": value.dtype.str,
        b"shape": list(value.shape),
    }


class _Reader(codec.Reader):
    def map(self, value: Dict[Any, Any]) -> Any:
        if b"__ndarray__" in value:
            self._count(len(value))
            return codec.array_of(self._data(value[b"data"]), value[b"dtype"], value[b"shape"])
        if b"__npgeneric__" in value and type(value[b"data"]) in (bool, int, float):
            return value[b"data"]
        return super().map(value)
