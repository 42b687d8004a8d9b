"""Messages that both sides make for themselves, to compare what the other's bytes become. numpy alone."""

import numpy as np


def samples():
    """Everything that protocol 1 carries, without images that PNG or JPEG could change."""
    rng = np.random.default_rng(5)
    dtypes = ["?", "i1", "<i2", ">i4", "<i8", "u1", "<u2", ">u4", "<u8", "<f2", ">f4", "<f4", "<f8", ">f8"]
    return {
        "arrays": {d: rng.integers(0, 2, (2, 3)).astype(d) for d in dtypes},
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 7), np.float32),
        "strided": np.arange(24, dtype=np.int64).reshape(4, 6)[::2, ::-1],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "five": np.zeros((1, 2, 1, 2, 1), np.float32),
        "gray": rng.integers(0, 255, (5, 4), np.uint8),
        "task": {"name": "pick up the bläck bowl", "ids": [1, 2, 3], "nested": {"deep": {"deeper": [None, True]}}},
        "numbers": [0, -1, 2**63, -(2**63), 0.1, float("inf"), np.float32(0.5).item()],
        "bytes": b"\x00\xff",
    }


def images():
    """HWC uint8, as cameras give them."""
    rng = np.random.default_rng(6)
    return {
        "rgb": rng.integers(0, 255, (9, 7, 3), np.uint8),
        "rgba": rng.integers(0, 255, (9, 7, 4), np.uint8),
        "flipped": rng.integers(0, 255, (8, 8, 3), np.uint8)[::-1, ::-1],
    }


def smooth():
    """An image that JPEG hardly changes."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return np.stack([np.tile(ramp, (64, 1))] * 3, axis=-1)


def same(a, b):
    """Equal in value, dtype and shape."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b
