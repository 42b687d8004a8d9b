"""Who runs out of memory gets twice as much, as often as is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlaeval_hpc.launch.decisions import decide, decisions
from vlaeval_hpc.launch.memory import more, raised, ran_out
from vlaeval_hpc.run.directory import RunDirectory


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mem": "8G"}, ("mem", "16G")),
        ({"mem": 2000}, ("mem", "4000")),
        ({"mem": "500MB"}, ("mem", "1000M")),
        ({"mem-per-cpu": "3g"}, ("mem-per-cpu", "6G")),
        ({"mem": "0"}, None),  # all of a node
        ({"mem": "a lot"}, None),
        ({"cpus-per-task": 2}, None),
    ],
)
def test_twice_as_much(options: dict[str, object], expected: tuple[str, str] | None) -> None:
    assert more(options) == expected


def test_what_was_decided_is_given_and_never_less_than_is_asked_for(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    given = {"mem": "2G", "time": "1:00"}
    assert raised(run, "shards", given) == given
    assert decide(run, "shards get mem=4G", "why", memory_of="shards", option="mem", value="4G", jobs=["1_0"])
    assert not decide(run, "shards get mem=4G", "again")
    assert raised(run, "shards", given) == {"mem": "4G", "time": "1:00"}
    assert raised(run, "server", given) == given
    assert raised(run, "shards", {"mem": "16000"}) == {"mem": "16000"}  # by now the config says more
    assert raised(run, "shards", {"mem-per-cpu": "1G"}) == {"mem-per-cpu": "1G"}
    assert [d["decision"] for d in decisions(run)] == ["shards get mem=4G"]


@pytest.mark.parametrize(
    ("state", "printed", "expected"),
    [
        ("OUT_OF_MEMORY", "", True),
        ("FAILED", "slurmstepd-n1: error: StepId=7.batch exceeded memory limit (637 > 209), being killed", True),
        ("FAILED", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.batch", True),
        ("FAILED", "error: no such checkpoint", False),
        ("COMPLETED", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.batch", False),  # it went on
        (None, "exceeded memory limit", False),  # it still runs
    ],
)
def test_who_ran_out_of_memory(tmp_path: Path, state: str | None, printed: str, expected: bool) -> None:
    (tmp_path / "7_1_0_log.out").write_text("x" * 100_000 + f"\n{printed}\n")
    (tmp_path / "7_11_0_log.out").write_text("exceeded memory limit")  # another's
    assert ran_out(tmp_path, "7_1", state) is expected


def test_decisions_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for text in ("", "{", "7", '[{"why": "torn"}]'):
        run.decisions.write_text(text)
        assert decisions(run) == []
        assert raised(run, "shards", {"mem": "2G"}) == {"mem": "2G"}
    assert decide(run, "a", "b") and [d["decision"] for d in decisions(run)] == ["a"]
