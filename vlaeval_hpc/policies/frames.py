"""Frames as the Open X-Embodiment pipelines of TensorFlow give them, without TensorFlow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


def shrunk(frame: Frame, size: int) -> Frame:
    """(h, w, 3) as JPEG and back, then (size, size, 3) by Lanczos, antialiased: what OpenVLA's data went through.

    Pillow's filters, which differ from TensorFlow's by rounding.
    """
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95)
    return np.asarray(Image.open(stream).resize((size, size), Image.Resampling.LANCZOS))


def cropped(frame: Frame, area: float) -> Frame:
    """The middle `area` of a square frame (n, n, 3), bilinear at n x n again, as tf.image.crop_and_resize has it.

    The corners of the crop are sampled, not the corners of its pixels, and nothing is antialiased.
    """
    count = len(frame)
    side = area**0.5
    at = np.linspace((1 - side) / 2, (1 + side) / 2, count, dtype=np.float64) * (count - 1)
    low = np.clip(np.floor(at).astype(int), 0, count - 1)
    high = np.clip(low + 1, 0, count - 1)
    share = (at - low).astype(np.float32)
    values = frame.astype(np.float32) / 255
    rows = _between(values[low], values[high], share[:, None, None])
    both = _between(rows[:, low], rows[:, high], share[None, :, None])
    return np.asarray(np.clip(both, 0, 1) * 255.5, dtype=np.uint8)


def _between(one: NDArray[Any], other: NDArray[Any], share: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(one + (other - one) * share)
