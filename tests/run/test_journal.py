from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run.journal import Journal, read_journal


def episode(i: int, run: str = "r") -> dict[str, object]:
    return {"run": run, "task": "push", "episode_id": i, "metrics": {"success": bool(i % 2)}, "steps": i}


def write(path: Path, count: int) -> None:
    journal = Journal(path)
    for i in range(count):
        journal.append(episode(i))
    journal.close()


def ids(path: Path) -> list[int]:
    return [e["episode_id"] for e in read_journal(path, "r").episodes]


def test_missing_journal_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "no.jsonl", "r") == ([], [])


@given(st.integers(0, 400))
def test_torn_anywhere_loses_only_the_torn_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    write(path, 4)
    whole = path.read_bytes()[:cut]
    path.write_bytes(whole)
    kept = whole.count(b"\n")
    assert read_journal(path, "r").problems == []
    assert ids(path) == list(range(kept))
    # Whoever goes on writes after the last whole line.
    journal = Journal(path)
    journal.append(episode(99))
    journal.close()
    assert ids(path) == [*range(kept), 99]


def test_a_torn_tail_longer_than_a_block_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    write(path, 2)
    with path.open("ab") as stream:
        stream.write(b"x" * 200_000)
    write(path, 1)
    assert ids(path) == [0, 1, 0]


def test_lines_that_are_no_episode_of_this_run_are_named(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    newer = {**episode(7), "schema": 99}
    lines = ["{}", "nonsense", "[1]", "null", json.dumps({**episode(5, "other"), "schema": 1}), json.dumps(newer)]
    path.write_text("\n".join(lines) + "\n")
    write(path, 1)
    found = read_journal(path, "r")
    assert [e["episode_id"] for e in found.episodes] == [0]
    assert [p.split(":")[1] for p in found.problems] == ["1", "2", "3", "4", "5", "6"]
    assert "other" in found.problems[4]


def test_a_full_disk_adds_nothing_and_says_so(tmp_path: Path) -> None:
    """In a process of its own whose files may not grow: the kernel then refuses as a full disk does."""
    path = tmp_path / "j.jsonl"
    write(path, 1)
    size = path.stat().st_size
    code = f"""
import resource, signal
from pathlib import Path
from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 20}, {size + 20}))
journal = Journal(Path({str(path)!r}))
try:
    journal.append({episode(1)!r})
except InfrastructureError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot append" in done.stdout
    assert path.stat().st_size == size
    assert ids(path) == [0]


def test_nan_never_reaches_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        journal.append({**episode(0), "metrics": {"success": float("nan")}})
    journal.close()
    assert ids(tmp_path / "j.jsonl") == []


def test_a_folder_in_its_place_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="cannot open"):
        Journal(tmp_path)
