from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run import lock as module
from vlaeval_hpc.run.lifeline import SUPERVISOR
from vlaeval_hpc.run.lock import SILENCE, Lock, break_locks_of_jobs, break_supervised_lock, identity


def test_held_once_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "s.lock"
    with Lock(path):
        with pytest.raises(InfrastructureError, match=f"process {os.getpid()} on {socket.gethostname()}"):
            Lock(path).acquire()
    assert not path.exists()
    with Lock(path):
        pass


def test_a_dead_process_of_this_host_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.lock"
    code = f"from vlaeval_hpc.run.lock import Lock; from pathlib import Path; import os; \
Lock(Path({str(path)!r})).acquire(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert path.exists()
    with Lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_recycled_pid_is_not_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "s.lock"
    with Lock(path):
        owner = json.loads(path.read_text())
    path.write_text(json.dumps({**owner, "started": owner["started"] - 1}))
    with Lock(path):
        pass


def test_another_host_lives_while_it_touches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "job": "77"}))
    with pytest.raises(InfrastructureError, match="elsewhere .job 77."):
        Lock(path).acquire()
    past = path.stat().st_mtime - SILENCE - 5
    os.utime(path, (past, past))
    with Lock(path):
        pass


def test_an_earlier_start_of_the_same_job_is_dead_wherever_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.lock"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "job": "12_3", "restarts": 0}))
    with pytest.raises(InfrastructureError, match="job 12_3"):
        Lock(path).acquire()  # the same start: a second process in one job
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with Lock(path):
        assert json.loads(path.read_text())["restarts"] == 1
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "job": "12_4", "restarts": 0}))
    with pytest.raises(InfrastructureError, match="job 12_4"):
        Lock(path).acquire()


def test_the_locks_of_ended_jobs_are_removed(tmp_path: Path) -> None:
    for job in ("12_3", "13", None):
        (tmp_path / f"{job}.lock").write_text(json.dumps({"host": "elsewhere", "job": job}))
    break_locks_of_jobs(tmp_path, {"12_3", "12_4"})
    assert sorted(p.name for p in tmp_path.glob("*.lock")) == ["13.lock", "None.lock"]


def test_who_starts_a_container_knows_that_its_owner_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, pids are the container's own: the owner looks alive until it is silent for long."""
    path = tmp_path / "s.lock"
    monkeypatch.setattr(module, "NOTICE", 0.2)

    def hold(supervisor: object) -> None:
        path.write_text(json.dumps({"host": "h", "namespace": "inside", "pid": 2, "supervisor": supervisor}))

    mine = identity()
    for other in (None, {**mine, "host": "elsewhere"}, {**mine, "pid": os.getppid(), "started": _start(os.getppid())}):
        hold(other)
        break_supervised_lock(path)
        assert path.exists()
    for dead in (mine, {**mine, "pid": os.getppid(), "started": 1}):
        hold(dead)
        break_supervised_lock(path)
        assert not path.exists()
    monkeypatch.setenv(SUPERVISOR, json.dumps(mine))
    with Lock(path):
        assert json.loads(path.read_text())["supervisor"] == mine


def _start(pid: int) -> int | None:
    return module._process_start(pid)


def test_a_lock_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "s.lock"
    path.write_text("")
    with pytest.raises(InfrastructureError):
        Lock(path).acquire()


def test_of_many_who_find_a_dead_owner_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty threads at a stale lock: the guard lets one at a time look and remove."""
    path = tmp_path / "s.lock"
    monkeypatch.setattr(module, "identity", lambda: {"host": "h", "thread": threading.get_ident()})
    path.write_text(json.dumps({"host": "elsewhere"}))
    past = path.stat().st_mtime - SILENCE - 5
    os.utime(path, (past, past))
    got: list[Lock] = []
    barrier = threading.Barrier(20)

    def take() -> None:
        one = Lock(path)
        barrier.wait()
        try:
            one.acquire()
            got.append(one)
        except InfrastructureError:
            pass

    threads = [threading.Thread(target=take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()
