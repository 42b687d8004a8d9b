"""Frames: four keys, six types, nothing else."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.values import payloads, same
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.codec import WireError, encode
from vlaeval_hpc.wire.messages import Message

GOOD = {"type": "action", "payload": {}, "seq": 3, "timestamp": 1.5}


@given(st.sampled_from(sorted(wire.TYPES)), payloads(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False))
@settings(max_examples=100, deadline=2000)
def test_a_message_comes_back(kind: str, payload: dict[str, Any], seq: int, timestamp: float) -> None:
    back = Message.unpack(Message(kind, payload, seq, timestamp).pack())
    assert (back.type, back.seq, back.timestamp) == (kind, seq, timestamp)
    assert same(back.payload, payload)


def test_a_frame_has_exactly_the_peers_keys() -> None:
    assert set(msgpack.unpackb(Message("hello", {}).pack())) == {"type", "payload", "seq", "timestamp"}


def test_keys_that_are_not_known_are_left_alone() -> None:
    """A later version of the protocol may say more."""
    assert Message.unpack(encode({**GOOD, "later": 1})).seq == 3


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_key_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(WireError, match=f"'{missing}' is missing"):
        Message.unpack(encode({k: v for k, v in GOOD.items() if k != missing}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", "greeting"),
        ("type", "HELLO"),
        ("type", 1),
        ("type", None),
        ("type", ["hello"]),
        ("type", {}),
        ("type", b"hello"),
        ("payload", []),
        ("payload", None),
        ("payload", "text"),
        ("seq", 1.0),
        ("seq", True),
        ("seq", "1"),
        ("seq", None),
        ("timestamp", "now"),
        ("timestamp", None),
        ("timestamp", {}),
    ],
    ids=repr,
)
def test_values_of_the_wrong_kind_are_refused(key: str, value: Any) -> None:
    with pytest.raises(WireError):
        Message.unpack(encode({**GOOD, key: value}))


@pytest.mark.parametrize("value", [None, 1, "hello", [], [GOOD], b"hello", True])
def test_a_message_is_a_map(value: Any) -> None:
    with pytest.raises(WireError):
        Message.unpack(encode(value))


def test_an_array_is_no_message_nor_payload() -> None:
    array = {"__ndarray__": True, "data": b"\1", "dtype": "|u1", "shape": [1]}
    for value in (array, {**GOOD, "payload": array}, {**GOOD, "type": array}, {**GOOD, "seq": array}):
        with pytest.raises(WireError):
            Message.unpack(encode(value))


def test_hello_names_the_versions() -> None:
    found = wire.hello(benchmark="toy")
    assert found["protocol_version"] == 1
    assert found["harness_version"].endswith(wire.HARNESS_MARK)
    assert found["benchmark"] == "toy"
