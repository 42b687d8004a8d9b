"""Shards on the doubles, as processes: what becomes of episodes when things break."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command
from tests.toys import TOY, journal, merged, outcomes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], tuple[object, ...]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-m", "vlaeval_hpc", *TOY, "run=a", "cluster.shards=1"]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    found = outcomes(merged(folder, "a"))
    assert len(found) == 6
    assert {dict(metrics)["success"] for metrics, _, _ in found.values()} == {True, False}
    return found


@pytest.mark.parametrize("shards", [2, 5])
def test_outcomes_do_not_depend_on_sharding(vlaeval: Command, tmp_path: Path, undisturbed: object, shards: int) -> None:
    done = vlaeval(*TOY, "run=a", f"cluster.shards={shards}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == undisturbed


@pytest.mark.parametrize("sharding", ["static", "elastic"])
def test_outcomes_do_not_depend_on_simulators(
    vlaeval: Command, tmp_path: Path, undisturbed: object, sharding: str
) -> None:
    """Three side by side in one shard, one of which crashes: all items once, the failed one again, one journal."""
    (tmp_path / "once").mkdir()
    faults = ("benchmark.params.faults={task-0/1:crash}", f"benchmark.params.once={tmp_path}/once")
    more = ("cluster.shards=1", "cluster.simulators=3", "benchmark.params.pace=0.1", f"sharding={sharding}")
    done = vlaeval(*TOY, "run=a", *faults, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == undisturbed
    lines = journal(tmp_path, "a")
    assert sorted(e["episode_id"] for e in lines) == sorted([0, 1, 2] * 2 + [1])
    assert {e["shard"] for e in lines} == {0}
    first, second, third = sorted(lines, key=lambda e: float(e["started_at"]))[:3]
    assert third["started_at"] < min(first["finished_at"], second["finished_at"])  # at the same time


@pytest.mark.parametrize("sharding", ["static", "elastic"])
def test_faults_that_pass_leave_no_trace_in_the_result(
    vlaeval: Command, tmp_path: Path, undisturbed: object, sharding: str
) -> None:
    """An exception, a crash, a hang and a failed start, once each: tried again, all end as if nothing had been."""
    (tmp_path / "once").mkdir()
    faults = "{task-0/0:raise,task-0/1:crash,task-1/0:hang,task-1/1:start}"
    once = f"benchmark.params.once={tmp_path}/once"
    more = ("benchmark.hang_timeout=3", f"sharding={sharding}")
    done = vlaeval(*TOY, "run=a", f"benchmark.params.faults={faults}", once, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == undisturbed
    tried = {e["failure_reason"] for e in journal(tmp_path, "a") if "failure_reason" in e}
    assert tried == {"simulator_step", "simulator_crash", "simulator_hang", "simulator_start"}
    assert merged(tmp_path, "a")["num_errors"] == 0


@pytest.mark.parametrize("sharding", ["static", "elastic"])
def test_faults_that_stay_are_recorded_under_their_reason(
    vlaeval: Command, tmp_path: Path, undisturbed: dict[tuple[str, int], tuple[object, ...]], sharding: str
) -> None:
    faults = "benchmark.params.faults={task-0/1:raise,task-1/2:kill}"
    done = vlaeval(*TOY, "run=a", faults, "cluster.shards=1", f"sharding={sharding}")
    assert done.returncode == 0, done.stdout + done.stderr
    result = merged(tmp_path, "a")
    found = outcomes(result)
    failed = {k: o[2] for k, o in found.items() if o[2]}
    assert {k: o for k, o in found.items() if k not in failed}.items() <= undisturbed.items()
    assert failed == {("task-0", 1): "simulator_step", ("task-1", 2): "simulator_crash"}
    assert result["failure_reasons"] == {"simulator_crash": 1, "simulator_step": 1}
    won = sum(dict(metrics)["success"] for metrics, _, _ in found.values())  # type: ignore[call-overload]
    assert result["mean_success"] == pytest.approx(won / 6, abs=1e-4)
    assert result["mean_success_completed"] == pytest.approx(won / 4, abs=1e-4)
    details = [e["failure_detail"] for t in result["tasks"] for e in t["episodes"] if "failure_detail" in e]
    assert "the toy broke" in details[0]
    assert "SIGKILL" in details[1]
    assert len(journal(tmp_path, "a")) == 6 + 2 * 2  # three tries each, and no more


@pytest.mark.parametrize(
    ("override", "reason", "word"),
    [
        ('model.params.fault="nan"', "bad_action", "NaN"),
        ("model.params.fault=raise:task-1", "policy_error", "the pilot is lost"),
    ],
)
def test_the_policys_failures_are_final(
    vlaeval: Command, tmp_path: Path, override: str, reason: str, word: str
) -> None:
    done = vlaeval(*TOY, "run=a", override)
    assert done.returncode == 0, done.stdout + done.stderr
    failed = [e for e in journal(tmp_path, "a") if "failure_reason" in e]
    assert {e["failure_reason"] for e in failed} == {reason}
    assert word in failed[0]["failure_detail"]
    assert len(journal(tmp_path, "a")) == 6


def test_a_sick_node_is_told_and_its_items_stay_open(vlaeval: Command, tmp_path: Path) -> None:
    faults = "{task-0/0:start,task-0/1:start,task-0/2:start}"
    done = vlaeval(*TOY, "run=a", f"benchmark.params.faults={faults}", "cluster.shards=1")
    assert done.returncode == 1
    assert "looks sick" in done.stdout
    assert "to finish what is open" in done.stdout
    assert len(journal(tmp_path, "a")) == 3
    result = merged(tmp_path, "a")
    assert result["partial"] is True


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vlaeval_hpc", *TOY, "run=a", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def lines(folder: Path) -> int:
    return sum(p.read_text().count("\n") for p in (folder / "results" / "a" / "shards").glob("*.jsonl"))


def shard_pids(folder: Path) -> list[int]:
    return [json.loads(p.read_text())["pid"] for p in (folder / "results" / "a" / "shards").glob("*.lock")]


def alive(word: str) -> list[str]:
    """Command lines of living processes that hold a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in found if word in line and "pytest" not in line]


SLOW = "benchmark.params.pace=0.05"


@pytest.mark.parametrize("sharding", ["static", "elastic"])
def test_kill_9_of_shards_loses_the_episode_in_flight_at_most(
    tmp_path: Path, undisturbed: object, sharding: str
) -> None:
    running = start(tmp_path, "benchmark.params.pace=0.2", f"sharding={sharding}")
    for count in (1, 2):
        wait_for(lambda n=count: lines(tmp_path) >= n and len(shard_pids(tmp_path)) > 0)
        with contextlib.suppress(ProcessLookupError):  # the lock of one that was killed before
            os.kill(shard_pids(tmp_path)[0], signal.SIGKILL)
        time.sleep(0.5)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert "started again" in output
    assert outcomes(merged(tmp_path, "a")) == undisturbed
    keys = [(e["task"], e["episode_id"]) for e in journal(tmp_path, "a")]
    assert len(keys) == len(set(keys)) == 6  # nothing was run to its end twice


@pytest.mark.parametrize("sharding", ["static", "elastic"])
def test_kill_9_of_everything_then_the_same_command_resumes(
    vlaeval: Command, tmp_path: Path, undisturbed: object, sharding: str
) -> None:
    running = start(tmp_path, SLOW, f"sharding={sharding}")
    wait_for(lambda: lines(tmp_path) >= 2)
    running.kill()
    running.communicate()
    before = {(e["task"], e["episode_id"]): e["finished_at"] for e in journal(tmp_path, "a")}
    wait_for(lambda: not alive(str(tmp_path / "results" / "a")), 30)  # nothing outlives the launcher
    done = vlaeval(*TOY, "run=a", SLOW, f"sharding={sharding}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == undisturbed
    after = {(e["task"], e["episode_id"]): e["finished_at"] for e in journal(tmp_path, "a")}
    assert before.items() <= after.items()
    assert len(journal(tmp_path, "a")) == 6
    again = vlaeval(*TOY, "run=a", SLOW, f"sharding={sharding}")
    assert again.returncode == 0 and "all were finished before" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_in_order_and_shows_what_is_there(tmp_path: Path, number: signal.Signals) -> None:
    running = start(tmp_path, "benchmark.params.pace=0.2")
    wait_for(lambda: lines(tmp_path) >= 1)
    running.send_signal(number)
    output, _ = running.communicate(timeout=30)
    assert running.returncode == 128 + number
    assert "PARTIAL" in output and f"stopped by {number.name}" in output and "to finish what is open" in output
    assert not alive(str(tmp_path / "results" / "a"))
    assert not list((tmp_path / "results" / "a" / "shards").glob("*.lock"))


def test_the_number_of_shards_may_change_between_starts(vlaeval: Command, tmp_path: Path, undisturbed: object) -> None:
    running = start(tmp_path, SLOW, "cluster.shards=1")
    wait_for(lambda: lines(tmp_path) >= 2)
    running.terminate()
    running.communicate()
    done = vlaeval(*TOY, "run=a", SLOW, "cluster.shards=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a")) == undisturbed
    assert len(journal(tmp_path, "a")) == 6
    shards = tmp_path / "results" / "a" / "shards"
    assert sorted(p.name for p in shards.glob("*.json")) == [f"toy_shard{i}of3.json" for i in range(3)]
    alone = vlaeval("merge", *map(str, shards.glob("*.json")), "-o", "alone.json")
    assert alone.returncode == 0, alone.stderr
    assert outcomes(json.loads((tmp_path / "alone.json").read_text())) == undisturbed


def test_more_episodes_are_the_same_run(vlaeval: Command, tmp_path: Path) -> None:
    assert vlaeval(*TOY, "run=a").returncode == 0
    first = {(e["task"], e["episode_id"]): e["finished_at"] for e in journal(tmp_path, "a")}
    done = vlaeval(*TOY, "run=a", "benchmark.episodes_per_task=5")
    assert done.returncode == 0, done.stdout + done.stderr
    second = {(e["task"], e["episode_id"]): e["finished_at"] for e in journal(tmp_path, "a")}
    assert len(outcomes(merged(tmp_path, "a"))) == 10
    assert first.items() <= second.items()


def test_the_server_may_die_and_come_back(tmp_path: Path, undisturbed: object) -> None:
    running = start(tmp_path, SLOW)
    wait_for(lambda: lines(tmp_path) >= 2)
    server = tmp_path / "results" / "a" / "server" / "rendezvous-0.json"
    os.kill(json.loads(server.read_text())["pid"], signal.SIGKILL)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert "server was ended by SIGKILL; started again" in output
    assert outcomes(merged(tmp_path, "a")) == undisturbed
    assert not [e for e in journal(tmp_path, "a") if "failure_reason" in e]


def test_a_shard_by_hand_and_a_second_one_beside_it(vlaeval: Command, tmp_path: Path) -> None:
    running = start(tmp_path, "benchmark.params.pace=0.5", "cluster.shards=1")
    wait_for(lambda: lines(tmp_path) >= 1)
    second = vlaeval("shard", "results/a", "--shard-id", "0")
    assert second.returncode == 75
    assert "another process runs this shard" in second.stderr
    launcher = vlaeval(*TOY, "run=a", "benchmark.params.pace=0.5", "cluster.shards=1")
    assert launcher.returncode == 75 and "launch.lock" in launcher.stderr
    running.terminate()
    running.communicate()
