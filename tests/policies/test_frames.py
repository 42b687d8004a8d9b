"""Frames as TensorFlow gives them: against pixels that TensorFlow 2.15 gave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlaeval_hpc.policies.frames import cropped, shrunk

AT = ((0, 0), (0, 223), (100, 50), (223, 223), (37, 191))
RAMP = (np.arange(224 * 224 * 3).reshape(224, 224, 3) * 7 % 256).astype(np.uint8)


def test_a_crop_is_tensorflows() -> None:
    """tf.image.crop_and_resize of nine tenths of the area, and convert_image_dtype there and back."""
    found = cropped(RAMP, 0.9)
    gave = [[157, 164, 171], [63, 70, 77], [126, 133, 140], [77, 84, 91], [164, 171, 178]]
    assert np.abs([found[at].astype(int) - pixel for at, pixel in zip(AT, gave, strict=True)]).max() <= 1
    assert abs(int(found.astype(int).sum()) - 19155946) <= 100


def test_shrinking_is_tensorflows_but_for_its_jpeg_decoder() -> None:
    """encode_jpeg, decode_image (a faster transform than Pillow's), resize by lanczos3 with antialias."""
    y, x = np.mgrid[:256, :256]
    frame = np.stack([(x + y) // 2, (x * 2) % 256, np.abs(np.sin(x / 17) * np.cos(y / 23)) * 255], -1).astype(np.uint8)
    found = shrunk(frame, 224)
    gave = [[0, 0, 7], [126, 253, 172], [83, 114, 12], [255, 254, 13], [129, 181, 19]]
    assert found.shape == (224, 224, 3)
    assert np.abs([found[at].astype(int) - pixel for at, pixel in zip(AT, gave, strict=True)]).max() <= 6


@given(st.integers(0, 255), st.floats(0.05, 1))
@settings(max_examples=20, deadline=None)
def test_a_plain_frame_stays_plain(value: int, area: float) -> None:
    found = cropped(np.full((32, 32, 3), value, np.uint8), area)
    assert found.shape == (32, 32, 3) and (found == value).all()


@pytest.mark.parametrize("frame", [RAMP, RAMP[::-1]], ids=["up", "down"])
def test_all_of_the_area_is_the_frame(frame: np.ndarray) -> None:  # type: ignore[type-arg]
    assert (cropped(frame, 1.0) == frame).all()
