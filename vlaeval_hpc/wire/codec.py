"""msgpack with numpy arrays, as vla-eval writes it, decoded within bounds.

Arrays travel raw: `{"__ndarray__": true, "data": bytes, "dtype": "<f4", "shape": [..]}`. On reading, vla-eval's images
(`{"__image__": true, "format": "raw" | "png" | "jpeg", ...}`) are taken too. Nothing is ever unpickled; only bool, int,
uint and float arrays are admitted; sizes are checked before anything is allocated by them.
"""

from __future__ import annotations

import functools
import io
import os
import re
import struct
from typing import Any, Callable, Dict, List, Optional, Union

import msgpack
import numpy as np

MAX_FRAME = 64 * 1024 * 1024
"""Bytes in one message: some 300 frames of 256 x 256. What is larger is a mistake or an attack."""

MAX_LIST = 2048
"""Elements in one list or map. The unpacker allocates a list's announced length before it has read one element, at each
of its up to 1024 levels; what is longer than this is an array and travels as one."""

MAX_ITEMS = 65536
"""Elements of all lists and maps of a message together: an empty map is one byte to send and a hundred to hold."""

MAX_DEPTH = 16
"""Levels of maps and lists in a message; the deepest that the protocol uses is 6."""

MAX_PIXELS = 2048 * 2048
"""Pixels in a compressed image, checked in its header before it is unpacked."""

MAX_IMAGES = MAX_FRAME
"""Bytes of all compressed images of a message when unpacked: what could have been sent raw."""

LARGE = 1 << 16
"""Bytes from which an array's data is not copied into a message, nor out of it."""

_DTYPE = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248])|bool|u?int(8|16|32|64)|float(16|32|64)")
_BANDS = {"L": 1, "RGB": 3, "RGBA": 4}


class WireError(ValueError):
    """Bytes that are no message."""


class HoldsPictures(Exception):
    """A message with compressed images: to unpack them takes milliseconds, for which its reader has to be asked."""


Piece = Union[bytes, memoryview]


def encode(value: Any, array: Optional[Callable[["np.ndarray[Any, Any]"], Any]] = None) -> bytes:
    """Pack plain values and numpy arrays, in another dialect where `array` says how one becomes a map.

    Raises TypeError for what the wire does not carry.
    """
    return b"".join(pieces(value, array))


def pieces(value: Any, array: Optional[Callable[["np.ndarray[Any, Any]"], Any]] = None) -> List[Piece]:
    """The same in pieces, to be sent one after the other: large arrays' own memory is among them."""
    packing = _Packing(array or _array_map)
    try:
        packed: bytes = msgpack.packb(value, default=packing, use_bin_type=True)
    except (ValueError, OverflowError, RecursionError) as error:
        # An int beyond 64 bits, a lone surrogate, a list that holds itself.
        raise TypeError(f"cannot be sent: {error}") from error
    found: List[Piece] = [packed]
    if packing.large:
        between = packed.split(_PACKED_HOLE)
        found = []
        for before, data in zip(between, packing.large):
            found += (before + _BIN32.pack(0xC6, data.nbytes), data)
        found.append(between[-1])
    length = sum(map(len, found))
    if length > MAX_FRAME:
        raise TypeError(f"a message of {length} bytes cannot be sent: at most {MAX_FRAME}")
    return found


def decode(data: Piece, reader: "Optional[Callable[[], Reader]]" = None) -> Any:
    """Unpack; arrays are read-only, and large ones are views of `data`. Another dialect brings its own `reader`.

    Raises WireError, whatever the bytes are.
    """
    if len(data) > MAX_FRAME:
        raise WireError(f"message of {len(data)} bytes: at most {MAX_FRAME}")
    make = reader or Reader
    if len(data) >= LARGE:
        found = make()
        rest = _cut(memoryview(data).toreadonly(), found.left_out)
        if found.left_out:
            try:
                value = _unpack(rest, found)
            except WireError:
                pass
            else:
                if not found.left_out:
                    return value
            # What looked like an array's data was something else, within text say.
    return _unpack(data, make())


def _unpack(data: Piece, reader: "Reader") -> Any:
    try:
        value = msgpack.unpackb(
            data,
            object_hook=reader.map,
            list_hook=reader.list,
            ext_hook=reader.extension,
            raw=False,
            strict_map_key=True,
            max_array_len=MAX_LIST,
            max_map_len=MAX_LIST,
            max_ext_len=0,
        )
        _check_depth(value, MAX_DEPTH)
        return value
    except (WireError, HoldsPictures):
        raise
    except Exception as error:  # the unpacker's own errors are many: ValueError, UnpackException, Unicode, StackError
        raise WireError(f"not a message: {type(error).__name__}: {error}") from None


def _cut(data: memoryview, left_out: Dict[bytes, memoryview]) -> bytes:
    """The message with other bytes in the place of what is likely to be a large array's data, which are `left_out`
    under them."""
    parts: List[Piece] = []
    at = 0
    while True:
        # Between two arrays lies little. No byte is looked at twice, whoever wrote this.
        near = bytes(data[at : at + _NEAR])
        begin = near.find(_LARGE_DATA) + len(_LARGE_DATA)
        length = int.from_bytes(near[begin : begin + 4], "big")
        end = at + begin + 4 + length
        if begin < len(_LARGE_DATA) or length < LARGE or end > len(data):
            parts.append(data[at:])
            return b"".join(parts)
        name = _HOLE + len(left_out).to_bytes(4, "big")
        parts += (near[: begin - 1], _BIN8.pack(0xC4, len(name)), name)
        left_out[name] = data[end - length : end]
        at = end


# The packer copies what it is given, twice, and the unpacker once. So in the place of a large array's data they are
# given bytes that nobody else can know.
_HOLE = os.urandom(16)
_BIN8, _BIN32 = struct.Struct(">BB"), struct.Struct(">BI")
_PACKED_HOLE = _BIN8.pack(0xC4, len(_HOLE)) + _HOLE
_LARGE_DATA = b"data\xc6"  # the end of the key of an array's data in every dialect, and the type of what is large
_NEAR = 4096


class _Packing:
    """The packer's `default` for one message: what numpy's values become; `large` holds what is left out."""

    def __init__(self, array: Callable[["np.ndarray[Any, Any]"], Any]) -> None:
        self._array = array
        self.large: List[memoryview] = []

    def __call__(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            kind = value.dtype
            if kind.kind not in "biuf" or kind.itemsize > 8:
                raise TypeError(f"an array of {kind} cannot be sent: bool, int, uint and float up to 64 bits can")
            made = self._array(value)
            if value.nbytes >= LARGE:
                for key, data in made.items():
                    if isinstance(data, memoryview):
                        self.large.append(data)
                        made[key] = _HOLE
            return made
        if isinstance(value, (np.bool_, np.integer, np.floating)):
            return value.item()
        raise TypeError(f"{type(value).__name__} cannot be sent")


def _array_map(value: "np.ndarray[Any, Any]") -> Dict[str, Any]:
    return {"__ndarray__": True, "data": array_data(value), "dtype": value.dtype.str, "shape": list(value.shape)}


def array_data(value: "np.ndarray[Any, Any]") -> memoryview:
    """An array's numbers as bytes, row by row."""
    # A view, not tobytes(), which copies. Of bytes, since memoryviews know no foreign byte order.
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


class Reader:
    """What one message may still hold, while it is unpacked from the inside out.

    With `pictures` False it raises HoldsPictures at the first compressed image.
    """

    def __init__(self, pictures: bool = True) -> None:
        self._pictures = pictures
        self._items = MAX_ITEMS
        self._images = MAX_IMAGES
        self.left_out: Dict[bytes, memoryview] = {}
        """Data of large arrays, under what was unpacked in their place; empty when all have found theirs."""

    def list(self, value: List[Any]) -> List[Any]:
        self._count(len(value))
        return value

    def map(self, value: Dict[Any, Any]) -> Any:
        self._count(len(value))
        if "__ndarray__" in value:
            return array_of(self._data(value["data"]), value["dtype"], value["shape"])
        if "__image__" in value:
            if value["format"] == "raw":
                return array_of(self._data(value["data"]), value["dtype"], value["shape"])
            return self._image(self._data(value["data"]), value["format"])
        for key in value:
            if type(key) is not str:
                raise WireError(f"a map's key is {key!r:.40}: keys are text")
        return value

    def extension(self, code: int, data: bytes) -> Any:
        raise WireError(f"an extension of type {code}: there are none")

    def _data(self, value: Any) -> Any:
        """An array's data, where it was left out in its place."""
        return self.left_out.pop(value, value) if type(value) is bytes and len(value) == len(_HOLE) + 4 else value

    def _count(self, elements: int) -> None:
        self._items -= 1 + elements
        if self._items < 0:
            raise WireError(f"more than {MAX_ITEMS} elements: numbers travel as arrays")

    def _image(self, data: Any, format: Any) -> "np.ndarray[Any, Any]":
        if not isinstance(data, (bytes, memoryview)) or format not in ("png", "jpeg"):
            raise WireError(f"image format {format!r:.20}: raw, png and jpeg are admitted")
        if not self._pictures:
            raise HoldsPictures
        try:
            from PIL import Image
        except ImportError:
            raise WireError(f"a {format} image came, and this environment has no Pillow to read it") from None
        with Image.open(io.BytesIO(data), formats=[format.upper()]) as picture:
            width, height = picture.size
            if picture.mode not in _BANDS:
                raise WireError(f"an image of mode {picture.mode}: valid: {', '.join(_BANDS)}")
            if width * height > MAX_PIXELS:
                raise WireError(f"an image of {width} x {height} pixels: at most {MAX_PIXELS} in all")
            self._images -= width * height * _BANDS[picture.mode]
            if self._images < 0:
                raise WireError(f"images of more than {MAX_IMAGES} bytes in a message")
            array = np.asarray(picture)
        array.flags.writeable = False
        return array


def array_of(data: Any, dtype: Any, shape: Any) -> "np.ndarray[Any, Any]":
    """The read-only array of these bytes. Raises WireError where they are none: dtype text, shape a list."""
    if not isinstance(data, (bytes, memoryview)) or not isinstance(dtype, str):
        raise WireError(f"not an array: dtype {dtype!r:.40}; bool, int, uint and float are admitted")
    if not isinstance(shape, list) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise WireError(f"not an array: shape {shape!r:.80}")
    kind = _dtype(dtype)
    size = kind.itemsize
    for length in shape:
        size *= length
    if size != len(data):
        raise WireError(f"not an array: {len(data)} bytes for {dtype} {shape!r:.80}")
    array = np.frombuffer(data, dtype=kind).reshape(shape)
    if not array.flags.aligned:  # a view lies where the message has it, and not every library takes that
        array = array.copy()
        array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=64)
def _dtype(name: str) -> "np.dtype[Any]":
    if not _DTYPE.fullmatch(name):
        raise WireError(f"not an array: dtype {name!r:.40}; bool, int, uint and float are admitted")
    return np.dtype(name)


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict):
        children: Any = value.values()
    elif isinstance(value, list):
        children = value
    else:
        return
    if not left:
        raise WireError(f"nested deeper than {MAX_DEPTH} levels")
    for child in children:
        if isinstance(child, (dict, list)):
            _check_depth(child, left - 1)
