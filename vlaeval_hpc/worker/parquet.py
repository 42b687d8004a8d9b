"""A Parquet file from columns of numbers and words, by numpy alone: in a benchmark's image there is nothing else.

One row group, a gzipped page a column, every value there. Format: https://parquet.apache.org/docs/file-format/ (format
2, data page 1), its headers in Thrift's compact protocol.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

Column = Union["np.ndarray[Any, Any]", Sequence[str]]

_BOOLEAN, _INT64, _FLOAT, _DOUBLE, _BYTE_ARRAY = 0, 2, 4, 5, 6
_PHYSICAL = {"b": (_BOOLEAN, "?"), "i8": (_INT64, "<i8"), "f4": (_FLOAT, "<f4"), "f8": (_DOUBLE, "<f8")}
_REQUIRED, _REPEATED = 0, 2
_UTF8, _LIST = 0, 3  # converted types
_PLAIN, _RLE, _GZIP = 0, 3, 2
_I32, _I64, _BINARY, _STRUCT = 5, 6, 8, 12  # types of Thrift's compact protocol


def parquet(columns: Dict[str, Column], about: Dict[str, str]) -> bytes:
    """The file's bytes; `about` goes into its key-value metadata.

    A column is (n,) of bool, integer or float, (n, k) of float with k above 0, which becomes lists, or n strings.
    Raises ValueError for columns of unequal length.
    """
    rows = {len(values) for values in columns.values()}
    if len(rows) != 1:
        raise ValueError(f"columns of {sorted(rows)} rows")
    count = rows.pop()
    body, chunks = b"PAR1", []
    schema = [_fields((4, "schema"), (5, len(columns)))]
    for name, values in columns.items():
        made = _column(name, values)
        schema += made.schema
        packed = _gzip(made.page)
        levels = _fields((1, made.values), (2, _PLAIN), (3, _RLE), (4, _RLE))
        header = _fields((1, 0), (2, len(made.page)), (3, len(packed)), (5, _Struct(levels)))
        size, whole = len(header) + len(packed), len(header) + len(made.page)
        about_column = _fields(
            (1, made.physical), (2, [_PLAIN, _RLE]), (3, list(made.path)), (4, _GZIP), (5, _Long(made.values)),
            (6, _Long(whole)), (7, _Long(size)), (9, _Long(len(body))),
        )  # fmt: skip
        chunks.append((_fields((2, _Long(len(body))), (3, _Struct(about_column))), whole))
        body += header + packed
    total = sum(whole for _, whole in chunks)
    group = _fields((1, [_Struct(chunk) for chunk, _ in chunks]), (2, _Long(total)), (3, _Long(count)))
    pairs = [_Struct(_fields((1, k), (2, v))) for k, v in about.items()]
    footer = _fields(
        (1, 2), (2, [_Struct(s) for s in schema]), (3, _Long(count)), (4, [_Struct(group)]), (5, pairs),
        (6, "vlaeval_hpc"),
    )  # fmt: skip
    return body + footer + struct.pack("<I", len(footer)) + b"PAR1"


class _Made(NamedTuple):
    """A column's part of the file: its entries in the schema, its path there, and its only page, unpacked."""

    schema: List[bytes]
    path: Tuple[str, ...]
    physical: int
    values: int
    page: bytes


def _column(name: str, values: Column) -> _Made:
    if not isinstance(values, np.ndarray):
        encoded = [text.encode("utf-8", "replace") for text in values]
        page = b"".join(struct.pack("<I", len(raw)) + raw for raw in encoded)
        entry = _fields((1, _BYTE_ARRAY), (3, _REQUIRED), (4, name), (6, _UTF8))
        return _Made([entry], (name,), _BYTE_ARRAY, len(encoded), page)
    kind = values.dtype.kind
    floating = "f4" if values.itemsize <= 4 else "f8"
    physical, dtype = _PHYSICAL["b" if kind == "b" else "i8" if kind in "iu" else floating]
    plain = np.ascontiguousarray(values.astype(dtype))
    data = np.packbits(plain, bitorder="little").tobytes() if kind == "b" else plain.tobytes()
    if values.ndim == 1:
        return _Made([_fields((1, physical), (3, _REQUIRED), (4, name))], (name,), physical, len(values), data)
    begins = np.zeros(values.shape, dtype=np.bool_)
    begins[:, :1] = True  # repetition level 0: a new row's list
    levels = _levels(~begins.ravel()) + _levels(np.ones(values.size, dtype=np.bool_))
    schema = [
        _fields((3, _REQUIRED), (4, name), (5, 1), (6, _LIST)),
        _fields((3, _REPEATED), (4, "list"), (5, 1)),
        _fields((1, physical), (3, _REQUIRED), (4, "element")),
    ]
    return _Made(schema, (name, "list", "element"), physical, values.size, levels + data)


def _levels(bits: "np.ndarray[Any, Any]") -> bytes:
    """Levels of one bit, in one bit-packed run of the RLE hybrid encoding."""
    packed = np.packbits(bits, bitorder="little").tobytes()
    run = _varint(len(packed) << 1 | 1) + packed
    return struct.pack("<I", len(run)) + run


def _gzip(data: bytes) -> bytes:
    # Not gzip.compress: it would write the time, and the same episode shall be the same file.
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


class _Long(int):
    """An i64; other integers are i32."""


class _Struct(bytes):
    """Fields that are written already."""


def _fields(*fields: Tuple[int, Any]) -> bytes:
    """A struct: (number, value) in ascending order."""
    out, last = b"", 0
    for number, value in fields:
        kind, data = _value(value)
        out += bytes([(number - last) << 4 | kind]) + data
        last = number
    return out + b"\0"


def _value(value: Any) -> Tuple[int, bytes]:
    if isinstance(value, list):
        kind = _value(value[0])[0] if value else _STRUCT
        head = bytes([len(value) << 4 | kind]) if len(value) < 15 else bytes([0xF0 | kind]) + _varint(len(value))
        return 9, head + b"".join(_value(v)[1] for v in value)
    if isinstance(value, _Struct):
        return _STRUCT, bytes(value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "replace")
        return _BINARY, _varint(len(raw)) + raw
    return _I64 if isinstance(value, _Long) else _I32, _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
