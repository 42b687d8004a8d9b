"""Pictures packed for slow links are the same when they are unpacked, by anybody."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from tests.wire.samples import smooth
from tests.wire.values import same
from vlaeval_hpc.wire.messages import OBSERVATION, Message
from vlaeval_hpc.wire.pictures import packed, png

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SHAPES = st.one_of(SIZES, st.tuples(SIZES, st.sampled_from((3, 4))).map(lambda s: (*s[0], s[1])))


@given(hnp.arrays(np.uint8, SHAPES), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_picture_comes_back_bit_for_bit(image: NDArray[np.uint8], flipped: bool) -> None:
    if flipped:
        image = image[::-1, ::-1]
    with Image.open(io.BytesIO(png(image))) as picture:
        picture.load()
        assert same(np.asarray(picture), np.ascontiguousarray(image))
    seen: dict[str, Any] = {"images": {"front": image}, "states": np.zeros(3), "task_description": "x"}
    back = Message.unpack(Message(OBSERVATION, packed(seen), 1).pack()).payload
    assert same(back, {**seen, "images": {"front": np.ascontiguousarray(image)}})
    assert seen["images"]["front"] is image


def test_what_is_no_picture_stays_as_it_is() -> None:
    images = {
        "depth": np.zeros((4, 4), np.float32),
        "mask": np.zeros((4, 4), bool),
        "thin": np.zeros((4, 4, 1), np.uint8),
        "several": np.zeros((2, 4, 4, 3), np.uint8),
        "empty": np.zeros((0, 4, 3), np.uint8),
        "none": None,
    }
    assert all(found is images[name] for name, found in packed({"images": images})["images"].items())
    assert packed({"value": 1}) == {"value": 1}


def test_it_is_worth_it() -> None:
    assert len(png(smooth())) < smooth().nbytes / 20
