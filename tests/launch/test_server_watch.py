"""What shards make of the server's jobs; Slurm's answers are made up, since it seldom gives these."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vlaeval_hpc.launch import graph, slurm, watch
from vlaeval_hpc.launch.decisions import decisions
from vlaeval_hpc.launch.jobs import Job, Submission, read_submissions, record
from vlaeval_hpc.launch.watch import ServerWatch
from vlaeval_hpc.run.directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    found = RunDirectory(tmp_path)
    found.create()
    record(found, [Submission([Job("server", "5", [[0]]), Job("shards", "6", [[0], [1]])])])

    def submit_server(_: object, where: RunDirectory) -> Job:
        *_, latest = read_submissions(where)
        record(where, [Submission([Job("server", "9", [[0]]), *latest.jobs[1:]])])
        return Job("server", "9", [[0]])

    monkeypatch.setattr(graph, "submit_server", submit_server)
    monkeypatch.setattr(watch, "from_yaml", lambda _: None)
    monkeypatch.setattr(watch, "SILENT", 0.0)
    return found


def look(run: RunDirectory) -> None:
    """As a shard does that has just started and hears of no server."""
    seen = ServerWatch(run)
    seen._next = 0.0
    seen.look()


def test_a_server_that_no_node_starts_is_submitted_anew(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []
    monkeypatch.setattr(slurm, "states", lambda ids: dict.fromkeys(ids, "PENDING"))
    monkeypatch.setattr(slurm, "not_started", lambda ids: [i for i in ids if i == "5"])
    monkeypatch.setattr(slurm, "cancel", cancelled.extend)
    look(run)
    look(run)  # the new one waits for a node as others do
    assert cancelled == ["5"] and read_submissions(run)[-1].ids("server") == ["9"]
    assert [d["decision"] for d in decisions(run)] == ["the server is submitted again as 9"]
    assert not run.stop.exists()


def test_one_answer_serves_all_shards_for_a_minute(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def states(ids: list[str]) -> dict[str, str]:
        asked.append(len(ids))
        return {} if len(asked) > 1 else {"5": "RUNNING"}

    monkeypatch.setattr(slurm, "states", states)
    look(run)
    look(run)
    assert asked == [1] and not run.stop.exists()
    answer = run.server / "jobs-asked.json"
    assert json.loads(answer.read_text())["states"] == {"5": "RUNNING"}
    past = answer.stat().st_mtime - watch.ASK_EVERY - 1
    os.utime(answer, (past, past))
    look(run)
    assert asked == [1, 1] and run.stop.exists()  # it has ended: no server will come
