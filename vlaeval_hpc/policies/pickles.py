"""Pickled weights, of which nothing is run: arrays in maps and lists, and no other object."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError

Array = NDArray[Any]


def read_arrays(path: Path) -> Any:
    """What a file holds: maps, lists, numbers, text, and NumPy's and JAX's arrays, which come as NumPy's.

    Raises ConfigurationError for whatever else it asks for; it is not run.
    """
    try:
        with path.open("rb") as stream:
            return _Arrays(stream).load()
    except Exception as error:  # pickle raises whatever it stumbles over
        raise ConfigurationError(f"{path}: no pickled arrays: {type(error).__name__}: {error}") from error


def _jax_array(make: Any, arguments: Any, state: Any, _: Any) -> Array:
    """As JAX pickles an array: how NumPy would make it, and what JAX knows beside that."""
    if make is not _RECONSTRUCT:
        raise pickle.UnpicklingError("an array that is made otherwise than by NumPy")
    array: Array = make(*arguments)
    array.__setstate__(state)
    return array


_RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,  # NumPy 2
    ("jax._src.array", "_reconstruct_array"): _jax_array,
}


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None
