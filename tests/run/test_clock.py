"""A node's wall clock may be wrong by hours: who lives is told by the clock of the file server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vlaeval_hpc.launch.watch import SILENT, ServerWatch
from vlaeval_hpc.run.clock import age
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.store import Store


@pytest.mark.parametrize("off", [-7200.0, 0.0, 7200.0])
def test_ages_do_not_depend_on_the_clock_of_who_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    true = time.time
    run = RunDirectory(tmp_path)
    run.create()
    heartbeat = run.rendezvous(0)
    heartbeat.touch()
    monkeypatch.setattr(time, "time", lambda: true() + off)
    own = tmp_path / "lock"
    own.touch()
    for silent in (0.0, SILENT + 5):
        os.utime(heartbeat, (true() - silent, true() - silent))
        told = age(heartbeat)
        assert told is not None and abs(told - silent) < 2
        kept = Store(tmp_path, own).age("server/rendezvous-0.json")
        assert kept is not None and abs(kept - silent) < 2
        assert ServerWatch(run)._heard_lately() is (silent == 0.0)
    assert not list(tmp_path.rglob("*.now"))


def test_no_file_has_no_age(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        age(tmp_path / "nothing")
