from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results.made import RUN, made_record
from vlaeval_hpc.results.tally import Tally, tally
from vlaeval_hpc.run.files import SCHEMA
from vlaeval_hpc.run.journal import Episode
from vlaeval_hpc.run.plan import Item
from vlaeval_hpc.run.result import settle


def text(records: list[Episode]) -> bytes:
    return "".join(json.dumps({"schema": SCHEMA, **record}) + "\n" for record in records).encode()


@st.composite
def journals(draw: st.DrawFn) -> list[Episode]:
    """What a shard writes: each item failing up to three times, then perhaps an outcome; rounds interleaved."""
    names = st.text(min_size=1, max_size=6) | st.sampled_from(['", "episode_id": 3', '"success": true', "ä\n\\"])
    keys = draw(st.lists(st.tuples(names, st.integers(0, 120)), max_size=12, unique=True))
    rounds: list[list[Episode]] = [[], [], [], []]
    for task, number in keys:
        item = Item(task, number, 7)
        failures = draw(st.integers(0, 3))
        for n in range(failures):
            rounds[n].append(made_record(item, failure=draw(st.sampled_from(["simulator_crash", "policy_error"]))))
        if failures == 0 or draw(st.booleans()):
            rounds[failures].append(made_record(item, success=draw(st.booleans())))
    return [record for part in rounds for record in part]


@given(journals(), st.integers(0, 40))
def test_tally_is_what_settling_gives(records: list[Episode], torn: int) -> None:
    standing = settle(records).values()
    errors = sum(1 for e in standing if "failure_reason" in e)
    expected = Tally(len(standing), errors, sum(e["metrics"]["success"] for e in standing))
    unfinished = text([made_record(Item("torn", 0, 7))])[: torn * 4]
    assert tally(text(records) + unfinished[: unfinished.find(b"\n")], RUN) == expected


GOOD = text([made_record(Item("t", i, 7)) for i in range(3)])


@pytest.mark.parametrize(
    "raw",
    [
        GOOD.replace(RUN.encode(), b"another", 1),
        GOOD.replace(b'"success": true', b'"success": 1.0', 1),
        GOOD.replace(b'"schema": 1, ', b"", 1),
        GOOD.replace(b": ", b":"),
        GOOD + b"nonsense\n",
        GOOD + b"\n",
        text([made_record(Item("t", 0, 7), failure="x", metrics={"success": True})]),
        text([made_record(Item("t", 0, 7), failure="x")])[:-3] + b"\n",
    ],
)
def test_what_looks_otherwise_must_be_parsed(raw: bytes) -> None:
    assert tally(raw, RUN) is None


def test_nothing_yet() -> None:
    assert tally(b"", RUN) == Tally(0, 0, 0) == tally(b'{"schema', RUN)
