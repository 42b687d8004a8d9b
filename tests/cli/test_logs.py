"""`logs`: of a real run, and of one whose folder holds what Slurm and submitit leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command
from tests.results.made import made_plan, made_record, made_run, write_journal
from tests.toys import TOY
from vlaeval_hpc.cli.logs import tail, trouble
from vlaeval_hpc.launch.jobs import Job, Submission, record
from vlaeval_hpc.run.directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Two replicas, four shards two a task, a merge that has not come."""
    run = made_run(tmp_path / "r", made_plan(4))
    jobs = run.root / "jobs"
    jobs.mkdir()
    script = "jobs/submission.sh"
    submitted = [
        Job("server", "7", [[0]], script=script),
        Job("shards", "8", [[0, 1], [2, 3]], script=script),
        Job("merge", "9", [[]], script=script),
    ]
    record(run, [Submission(submitted)])
    write(run, "server-0.log", *(f"served {i}" for i in range(100)))
    for shard in range(3):
        write(run, f"shard-{shard}.log", f"starting {shard}", f"task-0 {shard}: ok")
    (jobs / "7_0_log.out").write_text("submitit INFO (2026) - Starting\n")
    (jobs / "8_1_0_log.out").write_text("submitit INFO (2026) - Starting\ntime is nearly up: back into the queue\n")
    (jobs / "9_0_log.out").touch()
    for age, path in enumerate([*run.logs.iterdir(), *jobs.iterdir()]):
        os.utime(path, (1e9 + age, 1e9 + age))
    os.utime(run.logs / "shard-2.log", (2e9, 2e9))
    return run


def write(run: RunDirectory, name: str, *lines: str) -> None:
    with (run.logs / name).open("a") as stream:
        stream.write("".join(f"{line}\n" for line in lines))


def headers(text: str) -> list[str]:
    return [line[4:-4] for line in text.splitlines() if line.startswith("==> ")]


def test_the_server_and_the_latest_shard(vlaeval: Command, run: RunDirectory) -> None:
    done = vlaeval("logs", "r", "-n", "2")
    assert done.returncode == 0, done.stderr
    assert headers(done.stdout) == ["logs/server-0.log", "logs/shard-2.log"]
    assert "served 98\nserved 99\n" in done.stdout and "served 97" not in done.stdout


def test_what_went_wrong_comes_first(vlaeval: Command, run: RunDirectory) -> None:
    write(run, "shard-1.log", "error: shard 1: its first 3 episodes all failed: n7 looks sick", "more of the same")
    write(run, "shard-0.log", "Traceback (most recent call last):", '  File "a.py", line 1', "ValueError: no", "later")
    jobs = run.root / "jobs"
    (jobs / "7_0_log.out").write_text("slurmstepd: error: *** JOB 7 ON n7 CANCELLED DUE TO TIME LIMIT ***\n")
    done = vlaeval("logs", "r")
    first = done.stdout.split("==> logs/server-0.log")[0]
    assert set(headers(first)) == {"jobs/7_0_log.out", "logs/shard-0.log", "logs/shard-1.log"}
    assert "n7 looks sick" in first and "TIME LIMIT" in first and "later" not in first and "more of" not in first
    assert 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no\n' in first


def test_many_that_went_wrong_are_counted(vlaeval: Command, run: RunDirectory) -> None:
    for shard in range(10, 30):
        write(run, f"shard-{shard}.log", "error: no server answers")
    done = vlaeval("logs", "r")
    assert done.stdout.count("error: no server answers") <= 7
    assert "and 15 more logs tell of errors" in done.stdout


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        (["server"], ["logs/server-0.log", "jobs/7_0_log.out"]),
        (["shard", "0"], ["logs/shard-0.log"]),
        (["-n", "1", "shard", "2"], ["jobs/8_1_0_log.out", "logs/shard-2.log"]),
        (["shard"], ["jobs/8_1_0_log.out", "logs/shard-2.log"]),
        (["shard", "3"], ["jobs/8_1_0_log.out"]),
    ],
    ids=" ".join,
)
def test_a_choice(vlaeval: Command, run: RunDirectory, choice: list[str], shown: list[str]) -> None:
    done = vlaeval("logs", "r", *choice)
    assert done.returncode == 0, done.stderr
    assert sorted(headers(done.stdout)) == sorted(shown)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["r", "shrad"], ["unknown log 'shrad'", "did you mean shard"]),
        (["r", "merge"], ["no log of merge", "server 0, shard 0, shard 1, shard 2, shard 3"]),
        (["r", "shard", "9"], ["no log of shard 9", "valid: server 0"]),
        (["r", "shard", "9", "-f"], ["no log of shard 9"]),
        (["r", "shard", "x"], ["x"]),
        (["r", "-n", "-3"], ["-n -3"]),
        (["nowhere"], ["nowhere: no such folder"]),
    ],
    ids=lambda x: " ".join(x),
)
def test_what_is_not_there(vlaeval: Command, run: RunDirectory, arguments: list[str], words: list[str]) -> None:
    done = vlaeval("logs", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_a_reader_that_has_enough(run: RunDirectory) -> None:
    write(run, "server-0.log", *("x" * 100 for _ in range(20000)))
    line = f"{sys.executable} -m vlaeval_hpc logs {run.root} server -n 20000 | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("==> ") and done.stderr == ""


def follow(run: RunDirectory, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "vlaeval_hpc", "logs", str(run.root), *arguments, "-f"]

    def as_in_a_shell() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who runs the tests in the background ignores it

    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=as_in_a_shell)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    told = ""
    while words not in told:
        line = process.stdout.readline()
        assert line, f"ended after {told!r}"
        told += line
    return told


def test_followed_until_the_run_is_complete(run: RunDirectory) -> None:
    process = follow(run, "-n", "1")
    try:
        read_until(process, "task-0 2: ok")
        write(run, "shard-2.log", "task-1 2: ok")
        assert "==> logs/shard-2.log <==" in read_until(process, "task-1 2: ok")
        write(run, "shard-0.log", "of no interest")
        (run.root / "jobs" / "7_0_log.out").write_text("again\n")  # shorter: a requeued job has begun it anew
        told = read_until(process, "again")
        write(run, "merge.log", "merged all")
        run.merged.write_text("{}")
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and errors == ""
    assert "merged all" in rest and "of no interest" not in told + rest


def test_followed_until_nobody_wants_to_any_more(run: RunDirectory) -> None:
    process = follow(run, "shard", "3")
    try:
        read_until(process, "back into the queue")
        write(run, "shard-3.log", "begun")
        read_until(process, "begun")
        process.send_signal(2)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 130 and errors == ""


def test_a_stale_merge_ends_nothing(run: RunDirectory) -> None:
    """A merge of before, or one that a person asked for while shards are at work."""
    plan = made_plan(4)
    write_journal(run, plan, 0, [made_record(plan.items[0])])
    run.merged.write_text("{}")
    (run.shards / "made_shard0of4.lock").write_text("{}")
    process = follow(run, "shard", "0")
    try:
        read_until(process, "task-0 0: ok")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        (run.shards / "made_shard0of4.lock").unlink()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_of_a_real_run(vlaeval: Command) -> None:
    assert vlaeval(*TOY, "run=a").returncode == 0
    done = vlaeval("logs", "results/a")
    assert headers(done.stdout)[0] == "logs/server-0.log" and "logs/shard-" in done.stdout
    begin = time.monotonic()
    assert vlaeval("logs", "results/a", "-f").returncode == 0  # it is complete
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\nb", "a\n\nb\n", "é\n" * 70000, "x" * 200000 + "\nlast\n"])
@pytest.mark.parametrize("lines", [0, 1, 2, 50000])
def test_tail_is_the_end(tmp_path: Path, text: str, lines: int) -> None:
    (tmp_path / "log").write_text(text)
    assert tail(tmp_path / "log", lines) == (text.splitlines()[-lines:] if lines else [])


def test_trouble_is_looked_for_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"error: long ago\n" + b"fine \xff\n" * 100000 + b"error: now\n")
    assert trouble(path, 20) == ["error: now"]
    path.write_text("no error: here\nerrors: 0\n")
    assert trouble(path, 20) == []
