"""Whatever bytes come, decode gives a value or WireError, soon, and holds little meanwhile."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.wire.samples import images, samples, smooth
from tests.wire.values import arrays, payloads, same
from vlaeval_hpc.wire import codec
from vlaeval_hpc.wire.codec import LARGE, WireError, decode, encode
from vlaeval_hpc.wire.messages import Message

MB = 1 << 20


def ndarray(data: Any = b"\0\0\0\0", dtype: Any = "<f4", shape: Any = (1,), **more: Any) -> bytes:
    return bytes(msgpack.packb({"__ndarray__": True, "data": data, "dtype": dtype, "shape": shape, **more}))


def image(data: Any, format: Any = "png", **more: Any) -> bytes:
    return bytes(msgpack.packb({"__image__": True, "data": data, "format": format, **more}))


def png(array: NDArray[Any], mode: str | None = None, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(buffer, format)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def refused(data: bytes) -> tuple[str, float, int]:
    """The error, the seconds and the bytes held at most until decode gave up."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(WireError) as caught:
            decode(data)
        return str(caught.value), time.monotonic() - begin, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@given(payloads())
@settings(max_examples=300, deadline=2000)
def test_what_is_encoded_is_decoded(payload: dict[str, Any]) -> None:
    assert same(decode(encode(payload)), payload)


@given(arrays())
@settings(max_examples=300, deadline=2000)
def test_arrays_come_back_read_only(array: NDArray[Any]) -> None:
    back = decode(encode(array))
    assert same(back, array)
    assert not back.flags.writeable


def large(size: int, dtype: str = "u1") -> NDArray[Any]:
    return np.arange(size, dtype=np.int64).astype(dtype)


LARGE_ONES = {
    "two pictures": {"images": {"a": large(LARGE).reshape(256, 256), "b": large(LARGE + 1)}, "s": large(8), "t": "x"},
    "one alone": large(LARGE),
    "in lists": [large(LARGE), [large(2 * LARGE)], b"data"],
    "numbers of several bytes": {"x": large(LARGE, "<f4"), "abc": large(LARGE, ">i8"), "": large(LARGE // 8, "f8")},
    "bytes under the same key": {"data": bytes(2 * LARGE), "x": large(LARGE)},
    "bytes in a list, after that word": ["data", bytes(2 * LARGE), large(LARGE)],
    "within text": "\u01e4data\u0190".encode().decode() * LARGE,
    "within bytes": b"data\xc6" + (2 * LARGE).to_bytes(4, "big") + bytes(3 * LARGE),
    "within an array": {"x": np.frombuffer(b"data\xc6" + LARGE.to_bytes(4, "big") + bytes(2 * LARGE), np.uint8)},
    "far from the start": {"pad": "x" * 10_000, "x": large(LARGE)},
}


@pytest.mark.parametrize("value", LARGE_ONES.values(), ids=LARGE_ONES.keys())
def test_what_is_large_comes_back_the_same(value: Any) -> None:
    data = encode(value)
    assert b"".join(codec.pieces(value)) == data == whole(value)
    assert same(decode(data), value)
    assert same(decode(memoryview(bytearray(data))), value)


def whole(value: Any) -> bytes:
    """As the packer has it, nothing left out."""

    def array(found: Any) -> Any:
        return {"__ndarray__": True, "data": found.tobytes(), "dtype": found.dtype.str, "shape": list(found.shape)}

    return bytes(msgpack.packb(value, default=array))


def test_large_arrays_are_views_of_the_message_that_nobody_can_write_to() -> None:
    data = bytearray(encode({"x": large(LARGE), "f": large(LARGE, "f8")}))
    found = decode(memoryview(data))
    at = data.index(bytes(range(200)))
    data[at] = 77
    assert found["x"][0] == 77
    assert found["f"].flags.aligned
    assert not any(array.flags.writeable for array in found.values())
    with pytest.raises(ValueError, match="WRITEABLE"):
        found["x"].flags.writeable = True


@given(st.binary(max_size=40), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=2000)
@example(b"", LARGE)
@example(b"\xa5", LARGE)
def test_whatever_is_around_what_looks_like_an_array(before: bytes, length: int) -> None:
    """It is as the unpacker has it."""
    data = before + b"data\xc6" + length.to_bytes(4, "big") + bytes(LARGE + 100)
    try:
        expected = codec._unpack(data, codec.Reader())
    except WireError:
        with pytest.raises(WireError):
            decode(data)
    else:
        assert same(decode(data), expected)


def test_numpy_scalars_become_plain_ones() -> None:
    values = [np.bool_(True), np.int8(-3), np.uint64(2**64 - 1), np.float16(0.5), np.float32(0.25), np.float64(0.1)]
    assert same(decode(encode(values)), [True, -3, 2**64 - 1, 0.5, 0.25, 0.1])


@pytest.mark.parametrize(
    "value",
    [
        np.array([None]),
        np.array(["text"]),
        np.zeros(2, "V8"),
        np.zeros(2, "f4,f4"),
        np.zeros(2, complex),
        np.zeros(2, np.longdouble),
        np.zeros(2, "M8[s]"),
        np.longdouble(1),
        1j,
        {1, 2},
        object(),
        2**64,
        -(2**63) - 1,
        "\ud800",
        {"a": [object()]},
        np.zeros(codec.MAX_FRAME, np.uint8),
    ],
    ids=lambda v: f"{type(v).__name__} {getattr(v, 'dtype', '')}",
)
def test_what_the_wire_does_not_carry_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_a_value_that_holds_itself_is_a_type_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError):
        encode(loop)


@given(st.binary(max_size=400))
@settings(max_examples=500, deadline=2000)
@example(b"")
@example(b"\xc1")
@example(b"\x81\xc4\x0b__ndarray__\xc3")
def test_arbitrary_bytes_give_a_value_or_wire_error(data: bytes) -> None:
    for read in (decode, Message.unpack):
        try:
            read(data)
        except WireError:
            pass


@given(payloads(), st.integers(0, 2**32))
@settings(max_examples=400, deadline=2000)
def test_mutated_frames_give_a_value_or_wire_error(payload: dict[str, Any], seed: int) -> None:
    rng = random.Random(seed)
    image_too = {**payload, "image": {"__image__": True, "format": "png", "data": png(np.zeros((3, 2, 3), np.uint8))}}
    frame = bytearray(Message("observation", image_too, 3).pack())
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(frame) + 1)
        match rng.randrange(4):
            case 0:
                frame[at : at + 1] = rng.randbytes(1)
            case 1:
                del frame[at : at + rng.randint(1, 9)]
            case 2:
                frame[at:at] = rng.choice(
                    (b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc1")
                )
            case 3:
                frame[at : at + 4] = frame[:4]
    try:
        Message.unpack(bytes(frame))
    except WireError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff" * 2000,
        b"\xdc\xff\xff" * 2000,
        b"\xdf\xff\xff\xff\xff",
        b"\xde\xff\xff" * 2000,
        b"\xc6\xff\xff\xff\xffshort",
        b"\xdb\xff\xff\xff\xffshort",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xc7\x00\x05",
        b"\xc7\x00\xff",
        b"\xd4\x05a",
        b"\xd7\xff" + bytes(8),
        b"\x91" * 1_000_000,
        b"\x81\xa1a" * 1_000_000,
        b"\x92\xc0\xc0\xc0",
        b"\x82\xa1a",
        b"\xa2\xff\xfe",
        b"\x81\x01\x02",
        b"\x81\xc4\x01k\x02",
        b"\x81\x91\x01\x02",
        b"\x81\xc0\x02",
    ],
    ids=lambda d: d[:8].hex(),
)
def test_headers_that_lie_cost_nothing(data: bytes) -> None:
    _, seconds, held = refused(data)
    assert held < 4 * MB + len(data)
    assert seconds < 5


@pytest.mark.parametrize("element", [b"\x80", b"\x90", b"\xc0", b"\xa2ab", b"\x81\xa1a\x80"], ids=lambda e: e.hex())
def test_many_small_things_are_not_held(element: bytes) -> None:
    """A byte on the wire can be a hundred in memory."""
    row = b"\xdc\x08\x00" + element * 2048
    _, seconds, held = refused(b"\xdc\x08\x00" + row * 2048)
    assert held < 64 * MB
    assert seconds < 10


@pytest.mark.parametrize("element", [b"\xc0", b"\xa2ab", b"\xcb" + b"\x3f" * 8], ids=lambda e: e.hex())
def test_many_small_things_in_open_lists_are_not_held(element: bytes) -> None:
    """A list that has not ended is not counted yet."""
    data = (b"\xdc\x08\x00" + element * 2047) * 1100
    _, seconds, held = refused(data)
    assert held < 160 * MB
    assert seconds < 10


def test_nesting_is_bounded() -> None:
    value: Any = 1
    for _ in range(codec.MAX_DEPTH):
        value = [value]
    assert decode(encode(value)) == value
    for deeper in ([value], {"a": value}, {"a": {"b": value}}):
        assert "deeper" in refused(encode(deeper))[0]


@pytest.mark.parametrize("depth", [100, 1000, 1023, 1024, 1025, 5000, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"], ids=["list", "map"])
def test_no_nesting_exhausts_the_stack(depth: int, opening: bytes) -> None:
    refused(opening * depth + b"\x01")
    refused(b"\x84\xabx__ndarray__\xc3\xa4data" + opening * depth + b"\x01")


@pytest.mark.parametrize(
    "dtype",
    [
        "O", "|O", "V8", "S4", "U4", "<U4", "c8", "<c16", "M8[s]", "m8", "f4,f4", "(1000,)f4", "(2,2)<i4", "<f16",
        "float128", "object", "", "<", "u1\n", " u1", "U", "i3", "f1", "<bool", 5, None, ["<f4"], b"<f4", "u1;x",
    ],
    ids=repr,
)  # fmt: skip
def test_only_numbers_are_admitted(dtype: Any) -> None:
    for size in (0, 4, 8, 16):
        refused(ndarray(bytes(size), dtype))


@pytest.mark.parametrize(
    "shape",
    [
        [-1], [-1, -4], [2], [0], [], [1, 1, 2], [2**62], [2**63, 2**63], [2**64 - 1], [1.0], [True], ["1"], [None],
        [[1]], 1, None, "1", {"a": 1}, [1] * 9, [1] * 2000, [0, 2**63],
    ],
    ids=lambda s: repr(s)[:30],
)  # fmt: skip
def test_a_shape_that_is_none_or_does_not_fit_is_refused(shape: Any) -> None:
    # Without dimensions there is one element; here are two.
    data = b"" if shape == [0, 2**63] else bytes(8) if shape == [] else bytes(4)
    _, _, held = refused(ndarray(data, shape=shape))
    assert held < MB


def test_more_dimensions_than_any_image_batch_has_are_refused() -> None:
    refused(ndarray(shape=[1] * 9))


@pytest.mark.parametrize("data", ["text", None, 4, [0, 0, 0, 0], {}, b"", b"\0" * 5])
def test_array_data_is_bytes_of_the_right_number(data: Any) -> None:
    refused(ndarray(data))


@pytest.mark.parametrize("missing", ["data", "dtype", "shape"])
def test_an_array_lacks_nothing(missing: str) -> None:
    whole = {"__ndarray__": True, "data": b"\0\0\0\0", "dtype": "<f4", "shape": [1]}
    refused(msgpack.packb({k: v for k, v in whole.items() if k != missing}))


def test_arrays_inside_arrays_are_refused() -> None:
    inner = {"__ndarray__": True, "data": b"\1", "dtype": "|u1", "shape": [1]}
    for key in ("data", "dtype", "shape"):
        refused(msgpack.packb({"__ndarray__": True, "data": b"\0\0\0\0", "dtype": "<f4", "shape": [1], key: inner}))
    for key in ("data", "format"):
        refused(msgpack.packb({"__image__": True, "data": b"", "format": "png", key: inner}))


@pytest.mark.parametrize(
    ("mode", "format"), [("L", "png"), ("RGB", "png"), ("RGBA", "png"), ("L", "jpeg"), ("RGB", "jpeg")]
)
def test_images_are_read(mode: str, format: str) -> None:
    picture = Image.fromarray(smooth()).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, format.upper())
    found = decode(image(buffer.getvalue(), format))
    assert found.shape == np.asarray(picture).shape
    assert found.dtype == np.uint8
    assert not found.flags.writeable
    assert np.abs(found.astype(int) - np.asarray(picture).astype(int)).max() <= (0 if format == "png" else 4)


@pytest.mark.parametrize("format", ["bmp", "PNG", "webp", "tiff", "eps", "", None, 1, ["png"], b"png"])
def test_other_formats_are_refused(format: Any) -> None:
    refused(image(png(smooth()), format))


def test_an_image_is_of_the_format_that_it_says() -> None:
    refused(image(png(smooth()), "jpeg"))
    refused(image(png(smooth(), format="JPEG"), "png"))
    refused(image(png(smooth(), format="BMP"), "png"))
    for mode in ("P", "1", "I;16", "LA"):
        refused(image(png(smooth(), mode), "png"))


def test_broken_images_are_refused() -> None:
    whole = png(images()["rgb"])
    for end in range(len(whole) // 2):
        refused(image(whole[:end]))
    refused(image("text"))
    refused(image(None))
    refused(image(b"\0" * 100, "raw", dtype="|u1", shape=[101]))


@pytest.mark.parametrize("size", [(2049, 2048), (65535, 65535), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_announces_too_much_is_refused_unread(size: tuple[int, int]) -> None:
    _, seconds, held = refused(image(png_header(*size)))
    assert held < MB
    assert seconds < 5


def test_images_are_bounded_together() -> None:
    """Each of these is small on the wire and within bounds by itself."""
    bomb = {"__image__": True, "format": "png", "data": png(np.zeros((2048, 2048, 3), np.uint8))}
    assert len(bomb["data"]) < 64 * 1024  # type: ignore[arg-type]
    several = codec.MAX_IMAGES // (2048 * 2048 * 3)
    assert len(decode(msgpack.packb([bomb] * 2))) == 2
    message, _, _ = refused(msgpack.packb([bomb] * (several + 1)))
    assert "images of more than" in message


def test_what_is_too_large_is_refused_at_once() -> None:
    message, seconds, held = refused(bytes(codec.MAX_FRAME + 1))
    assert "at most" in message
    assert held < MB
    assert seconds < 1


def test_a_large_observation_is_decoded_without_copies() -> None:
    frame = encode({"images": {str(i): np.zeros((256, 256, 3), np.uint8) for i in range(40)}})
    tracemalloc.start()
    value = decode(frame)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < len(frame) + MB
    assert len(value["images"]) == 40


def test_vla_eval_reads_what_we_write_and_we_what_it_writes(vla_eval_python: Path, tmp_path: Path) -> None:
    (tmp_path / "ours-plain").write_bytes(Message("observation", samples(), 9, 3.5).pack())
    (tmp_path / "ours-images").write_bytes(Message("observation", images(), 9, 3.5).pack())
    script = Path(__file__).parent / "vla_eval_codec.py"
    done = subprocess.run([vla_eval_python, script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain = Message.unpack((tmp_path / "theirs-plain").read_bytes())
    assert (plain.type, plain.seq, plain.timestamp) == ("observation", 7, 1.5)
    assert same(plain.payload, samples())
    for form in ("png", "raw"):
        assert same(Message.unpack((tmp_path / f"theirs-{form}").read_bytes()).payload, images())
    blurred = Message.unpack((tmp_path / "theirs-jpeg").read_bytes()).payload["smooth"]
    assert blurred.shape == smooth().shape
    assert np.abs(blurred.astype(int) - smooth().astype(int)).max() <= 4
