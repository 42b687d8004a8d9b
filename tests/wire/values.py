"""What the wire carries, as hypothesis strategies, and what it means that two values are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

MARKS = ("__ndarray__", "__image__")


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    """Any admitted dtype in either byte order, 0 to 4 dimensions, empty ones too, often not contiguous."""
    kinds = st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
    )
    array = draw(hnp.arrays(draw(kinds), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    return array[(..., *(slice(None, None, draw(st.sampled_from((1, 2, -1)))) for _ in range(array.ndim)))]


def plain() -> st.SearchStrategy[Any]:
    """Scalars, text and bytes."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.binary(max_size=8),
    )


def keys() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda k: k not in MARKS)


def payloads() -> st.SearchStrategy[dict[str, Any]]:
    """Maps of maps, lists, arrays and plain values."""
    nested = st.recursive(
        plain() | arrays(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys(), inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(keys(), nested, max_size=4)


def same(a: Any, b: Any) -> bool:
    """Equal in value, type, dtype and shape; NaN equals NaN."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
            return False
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b or (a != a and b != b))
