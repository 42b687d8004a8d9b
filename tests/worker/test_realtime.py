"""mode=realtime: who waits for whom, which action is applied when, and what is said of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from tests.conftest import Command
from tests.doubles.toy import Toy
from tests.toys import TOY, journal, merged, outcomes
from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.plan import Item
from vlaeval_hpc.wire.specs import Spec
from vlaeval_hpc.worker.realtime import Drive, Mode
from vlaeval_hpc.worker.recording import Take


class Clockwork(Benchmark):
    """Shows its step, and keeps the actions that were applied: -1 is the hold action."""

    max_steps = 20
    action_spec = {"value": Spec("value", 1, "any")}
    observation_spec = {"state": Spec("state", 1, "any")}

    def __init__(self, gate: Callable[[int], None] = lambda step: None) -> None:
        super().__init__(seed=0)
        self.applied: list[float] = []
        self.held: list[Any] = []
        self.looked: list[int] = []
        self._gate = gate

    def tasks(self) -> list[dict[str, Any]]:
        return [{"name": "a"}]

    def reset(self, task: Any, episode: int) -> None:
        pass

    def observe(self) -> dict[str, Any]:
        self.looked.append(len(self.applied))
        return {"states": np.array([len(self.applied)])}

    def step(self, action: Any, look: bool = True) -> bool:
        self.applied.append(float(action[0]))
        self._gate(len(self.applied))
        return False

    def hold(self, last: Any) -> Any:
        self.held.append(None if last is None else float(last[0]))
        return np.array([-1.0])

    def result(self) -> dict[str, Any]:
        return {"success": True}


def chunk(observation: dict[str, Any], length: int = 4) -> Any:
    """The action for step s of an observation of step o is o + s / 100."""
    now = int(observation["states"][0])
    return np.array([[now + (now + i) / 100] for i in range(length)])


def drive(mode: Mode, steps: int, ask: Any = chunk, benchmark: Clockwork | None = None) -> tuple[Drive, Clockwork]:
    benchmark = benchmark or Clockwork()
    loop = Drive(mode, benchmark, Take(benchmark, Item("a", 0, 0)), ask, lambda phase: None)
    loop.run(steps, lambda: None)
    return loop, benchmark


def simulated(latency: int, horizon: int = 1, first: bool = False) -> Mode:
    return Mode(10.0, 1.0, first, latency, horizon)


def moments(benchmark: Clockwork) -> list[tuple[int, int]]:
    """(step of the observation, step that the action was meant for) of each applied action; (-1, -1) where held."""
    return [(-1, -1) if a < 0 else (int(a), round(a % 1 * 100)) for a in benchmark.applied]


def test_actions_that_are_past_are_left_out() -> None:
    loop, benchmark = drive(simulated(2), 8)
    # Nothing for two steps, then each chunk from its third action on; its next question is asked when it is there.
    assert moments(benchmark) == [(-1, -1), (-1, -1), (0, 2), (0, 3), (2, 4), (2, 5), (4, 6), (4, 7)]
    assert benchmark.looked == [0, 2, 4, 6]
    assert benchmark.held == [None, None]
    report = loop.report()
    assert (report["update_count"], report["stale_count"], report["inference_count"]) == (6, 2, 3)
    assert report["stale_action_ratio"] == 0.25 and report["effective_control_hz"] == 7.5
    assert (report["delay_mean"], report["delay_max"]) == (2.0, 2)


def test_a_latency_of_none_with_a_horizon_is_taking_turns() -> None:
    loop, benchmark = drive(simulated(0, horizon=4), 8)
    assert moments(benchmark) == [(4 * (i // 4), i) for i in range(8)]
    assert benchmark.looked == [0, 4]
    assert loop.report()["effective_control_hz"] == 10.0


def test_longer_than_a_chunk() -> None:
    # Of a chunk that is past altogether the last action is the best that there is, once.
    _, benchmark = drive(simulated(6), 14)
    assert moments(benchmark)[6:] == [(0, 3)] + [(-1, -1)] * 5 + [(6, 9)] + [(-1, -1)]
    assert benchmark.held[6] == 0.03


def test_the_first_action_is_waited_for() -> None:
    _, benchmark = drive(simulated(2, first=True), 4)
    assert moments(benchmark) == [(0, 0), (0, 1), (0, 2), (1, 3)]
    assert not benchmark.held


def test_the_horizon_is_kept_between_questions() -> None:
    _, benchmark = drive(simulated(1, horizon=3), 10)
    assert benchmark.looked == [0, 3, 6, 9]
    assert moments(benchmark)[1:8] == [(0, 1), (0, 2), (0, 3), (3, 4), (3, 5), (3, 6), (6, 7)]


@pytest.mark.parametrize("latency", [None, 2])
def test_a_new_instruction_ends_a_chunk(latency: int | None) -> None:
    class Chain(Clockwork):
        def step(self, action: Any, look: bool = True) -> bool:
            super().step(action, look)
            self.restarted = len(self.applied) == 3
            return False

    benchmark, began = Chain(), []
    loop = Drive(
        Mode(500.0, 1.0, True, latency, 100), benchmark, Take(benchmark, Item("a", 0, 0)), chunk, lambda phase: None
    )
    loop.run(8, lambda: began.append(len(benchmark.applied)))
    assert began == [3] and benchmark.looked[0] == 0 and 3 in benchmark.looked
    assert [m for m in moments(benchmark)[3:] if m[0] == 0] == [], "meant for the instruction before"
    if latency is not None:  # by the wall's clock the answer may come after the end
        assert (3, 5) in moments(benchmark)


def test_policies_are_told_what_time_it_is() -> None:
    told: list[dict[str, Any]] = []

    def ask(observation: dict[str, Any]) -> Any:
        told.append(observation["realtime"])
        return chunk(observation)

    drive(simulated(3, horizon=4), 9, ask)
    assert told == [{"step": s, "delay": 3, "execute_horizon": 4} for s in (0, 4, 8)]


def test_the_wall_does_not_wait() -> None:
    """The policy answers the first question only after step 3: steps in between are held."""
    free = threading.Event()
    arrived = threading.Event()

    def gate(step: int) -> None:
        if step == 3:
            free.set()
            assert arrived.wait(20)

    def ask(observation: dict[str, Any]) -> Any:
        assert free.wait(20)
        arrived.set()
        return chunk(observation, 30)

    def step(count: int) -> None:
        gate(count)
        if count >= 3:  # time for the thread to hand its answer over
            handed.wait(0.5)

    handed = threading.Event()
    loop, benchmark = drive(Mode(100.0, None, False, None, 100), 8, ask, Clockwork(step))
    assert moments(benchmark)[:3] == [(-1, -1)] * 3
    fresh = [m for m in moments(benchmark) if m[0] == 0]
    assert fresh and all(at == i for i, (_, at) in enumerate(moments(benchmark)) if at >= 0), "each at its own step"
    report = loop.report()
    assert report["stale_count"] + report["update_count"] == 8 and report["stale_count"] >= 3
    assert report["delay_max"] >= 3


def test_waiting_for_the_first_action_on_the_wall() -> None:
    loop, benchmark = drive(Mode(1000.0, 1.0, True, None, 100), 5, lambda seen: chunk(seen, 9))
    assert moments(benchmark) == [(0, i) for i in range(5)]
    assert loop.report()["stale_count"] == 0


@pytest.mark.parametrize("latency", [None, 1])
def test_what_goes_wrong_in_the_policy_ends_the_episode(latency: int | None) -> None:
    def ask(observation: dict[str, Any]) -> Any:
        raise RuntimeError("lost")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="lost"):
        drive(Mode(500.0, 1.0, True, latency, 1), 5, ask)
    assert threading.active_count() == before


REALTIME = ("mode=realtime", "mode.latency=2", "model.params.chunk=4", "mode.hz=20")


def test_a_set_latency_is_a_fact(vlaeval: Command, tmp_path: Path) -> None:
    for shards in (1, 3):
        done = vlaeval(*TOY, *REALTIME, f"run=r{shards}", f"cluster.shards={shards}")
        assert done.returncode == 0, done.stdout + done.stderr
    one = merged(tmp_path, "r1")
    assert outcomes(one) == outcomes(merged(tmp_path, "r3"))
    assert one["mode"] == "realtime" and 0 < one["mean_stale_action_ratio"] < 1
    assert one["mean_effective_control_hz"] < 20
    record = journal(tmp_path, "r1")[0]
    assert record["rt_metrics"]["stale_count"] == 2 and record["rt_metrics"]["delay_max"] == 2
    sync = vlaeval(*TOY, "run=r1")
    assert sync.returncode == 2 and "holds a different run" in sync.stderr
    vlaeval(*TOY, "run=sync", "model.params.chunk=4")
    compared = vlaeval("compare", "results/sync", "results/r1")
    assert compared.returncode == 2 and "mode is 'realtime', not 'sync'" in compared.stderr


def test_recorded_actions_are_replayed_in_their_own_time(vlaeval: Command, tmp_path: Path) -> None:
    """What was recorded where time waits is carried out step for step where it does not."""
    assert vlaeval(*TOY, "recording=steps", "run=once").returncode == 0
    steps = f"{tmp_path}/results/once/steps/*/*.parquet"
    rows = duckdb.sql(f"SELECT task, episode, list(action ORDER BY step) FROM '{steps}' GROUP BY ALL").fetchall()
    lines = [json.dumps({"task": task, "episode": episode, "actions": actions}) for task, episode, actions in rows]
    (tmp_path / "recorded.jsonl").write_text("\n".join(lines))
    replay = ("model=replay", "model.params.path=recorded.jsonl", "mode=realtime", "mode.latency=2")
    chosen = [a for a in TOY if a != "model=pilot"]
    done = vlaeval(*chosen, *replay, "mode.wait_first_action=true", "mode.execute_horizon=3", "run=again")
    assert done.returncode == 0, done.stdout + done.stderr
    again = outcomes(merged(tmp_path, "again"))
    for key, (metrics, count, failure) in outcomes(merged(tmp_path, "once")).items():
        measured = dict(again[key][0])
        assert {k: measured[k] for k, _ in metrics} == pytest.approx(dict(metrics), abs=1e-6)
        assert again[key][1:] == (count, failure) and measured["stale_action_ratio"] == 0


def test_time_is_the_walls(vlaeval: Command, tmp_path: Path) -> None:
    slow = (
        "mode=realtime",
        "mode.hz=100",
        "model.params.latency=0.03",
        "model.params.chunk=8",
        "benchmark.max_tasks=1",
    )
    done = vlaeval(*TOY, *slow, "run=r", "benchmark.episodes_per_task=1")
    assert done.returncode == 0, done.stdout + done.stderr
    record = journal(tmp_path, "r")[0]
    assert record["rt_metrics"]["stale_count"] >= 1 and record["rt_metrics"]["delay_max"] >= 1
    assert record["metrics"]["stale_action_ratio"] == record["rt_metrics"]["stale_action_ratio"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mode.hz=0",), "mode.hz=0.0: valid: above 0"),
        (("mode.latency=-1",), "mode.latency=-1: valid: 0 and more, or null"),
        (("model.action_ensemble=average",), "model.action_ensemble=average: mode=realtime carries out the newest"),
    ],
)
def test_wrong_words(vlaeval: Command, words: tuple[str, ...], said: str) -> None:
    done = vlaeval(*TOY, "mode=realtime", *words)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_a_benchmark_must_say_what_holding_still_is() -> None:
    class Silent(Toy):
        hold = Benchmark.hold

    with pytest.raises(ConfigurationError, match=r"Silent has no hold action"):
        Silent(seed=0).hold(None)
