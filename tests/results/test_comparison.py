from __future__ import annotations

import io
import random
from typing import Any

import pytest
from rich.console import Console

from tests.results.made import shard_content
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.comparison import Comparison, compare
from vlaeval_hpc.results.comparisontable import print_comparison
from vlaeval_hpc.results.merge import merge_shards
from vlaeval_hpc.results.outcomes import Outcomes, outcomes

Episode = dict[str, Any]
GRADED = {"success": "mean", "progress": "mean"}


def merged(episodes: dict[tuple[str, int], Episode], keys: dict[str, str] = GRADED) -> dict[str, Any]:
    found = [(task, {"episode_id": number, "steps": 1, **e}) for (task, number), e in episodes.items()]
    return merge_shards([("x", shard_content(0, 1, found, keys))])


def run(name: str, won: str, tasks: int = 2, **more: dict[tuple[str, int], Episode]) -> Outcomes:
    """`won`: a digit an episode, task after task; x is a crash of the simulator, p of the policy, - is not there."""
    size = len(won) // tasks
    episodes: dict[tuple[str, int], Episode] = {}
    for i, digit in enumerate(won):
        episode: Episode = {"metrics": {"success": digit == "1"}}
        if digit in "xp":
            episode["failure_reason"] = {"x": "simulator_crash", "p": "policy_error"}[digit]
        if digit != "-":
            episodes[f"t{i // size}", i % size] = episode
    return outcomes(name, merged(episodes))


def chances(seed: int, rate: float, n: int) -> str:
    """Wins in episodes that are equally easy for every seed; the better policy wins all that the worse one wins."""
    easy = random.Random(0)
    noise = random.Random(seed)
    return "".join(str(int(0.8 * easy.random() + 0.2 * noise.random() < rate)) for _ in range(n))


def test_better_worse_and_inconclusive() -> None:
    base, up, down, same = (
        ("1" * 50 + "0" * 50),
        ("1" * 62 + "0" * 38),
        ("1" * 38 + "0" * 62),
        ("0" + "1" * 50 + "0" * 49),
    )
    runs = [run("base", base), run("up", up), run("down", down), run("same", same)]
    found = compare(runs)
    assert [pair.verdict for pair in found.pairs] == ["better", "worse", "inconclusive"]
    first, _, last = found.pairs
    assert (first.n, first.gained, first.lost, first.difference) == (100, 12, 0, 0.12)
    assert first.p == pytest.approx(2 / 2**12) and first.p_adjusted == pytest.approx(6 / 2**12)
    assert first.interval is not None and first.interval.low > 0
    assert first.flips[0] == ("t1", 0, "gained") and len(first.flips) == 12
    assert (last.gained, last.lost, last.more_episodes) == (1, 1, None)
    assert {row.name: row.letters for row in found.runs} == {"base": "b", "up": "a", "down": "c", "same": "b"}
    assert found.best is None
    assert found.runs[0].interval is not None and found.runs[0].over_tasks is not None


def test_the_baseline_can_be_another() -> None:
    found = compare([run("a", "10" * 20), run("b", "11" * 20)], baseline="b")
    assert [(p.name, p.verdict) for p in found.pairs] == [("a", "worse")]
    with pytest.raises(ConfigurationError, match=r"unknown baseline 'c': .*valid: a, b"):
        compare([run("a", "10"), run("b", "11")], baseline="c")


def test_inconclusive_says_how_many_more_would_decide() -> None:
    found = compare([run("a", chances(1, 0.80, 200)), run("b", chances(2, 0.83, 200))])
    pair = found.pairs[0]
    assert pair.verdict == "inconclusive" and pair.more_episodes is not None and pair.more_episodes > 100
    assert pair.smallest is not None and pair.smallest_unpaired is not None
    assert abs(pair.difference) < pair.smallest < pair.smallest_unpaired
    assert found.best is not None and found.best.of[0] == found.best.name and 0 < found.best.optimism < 0.05


def test_a_minimal_difference_moves_the_line() -> None:
    runs = [run("a", "1" * 50 + "0" * 50), run("b", "1" * 62 + "0" * 38)]
    verdicts = [compare(runs, min_difference=m).pairs[0].verdict for m in (0, 4, 10, 30, -10)]
    assert verdicts == ["better", "better", "inconclusive", "worse", "better"]
    same = [run("a", "10" * 300), run("b", "10" * 300)]
    assert compare(same).pairs[0].verdict == "inconclusive"
    assert compare(same, min_difference=-2).pairs[0].verdict == "better"  # no more than 2 points worse: shown


def test_infrastructure_failures_are_left_out_and_the_policys_are_lost() -> None:
    found = compare([run("a", "1111x11111"), run("b", "11p1111x-1")])
    a, b = found.runs
    assert (a.n, a.left_out) == (9, {"simulator_crash": 1})
    assert (b.n, b.left_out, b.policy_failures) == (8, {"not there": 1, "simulator_crash": 1}, {"policy_error": 1})
    pair = found.pairs[0]
    assert (pair.n, pair.gained, pair.lost) == (7, 0, 1) and pair.flips == [("t0", 2, "lost")]
    assert pair.failures is not None and pair.failures.p > 0.5


def test_one_sides_many_failures_are_a_caution() -> None:
    found = compare([run("a", "1" * 100), run("b", "1" * 60 + "x" * 40)])
    assert found.pairs[0].failures is not None and found.pairs[0].failures.p < 1e-6
    assert "caution: b: failed episodes +40.0 points [30." in printed(found)


def test_tasks_that_stand_out() -> None:
    found = compare([run("a", "1" * 20 + "10" * 10), run("b", "0" * 20 + "01" * 10)])
    rows = {row.task: row for row in found.pairs[0].tasks}
    assert rows["t0"].p_adjusted < 0.001 and rows["t1"].p_adjusted == 1
    assert "b on t0: -100.0 [-100.0, -67.8], gained 0, lost 20, p <0.001 (Holm over 2 tasks)" in printed(found)


def test_of_many_tasks_that_stand_out_the_first_are_shown() -> None:
    found = compare([run("a", "1" * 300, tasks=30), run("b", ("1" * 20 + "0" * 10) * 10, tasks=30)])
    assert sum(task.stands_out for task in found.pairs[0].tasks) == 0  # 10 flips of 10: p 0.002, of 30 tasks 0.06
    found = compare([run("a", "1" * 600, tasks=30), run("b", ("1" * 40 + "0" * 20) * 10, tasks=30)])
    text = printed(found)
    assert text.count("(Holm over 30 tasks)") == 8 and "b: 2 more tasks stand out: --json tells all" in text
    everywhere = compare([run("a", "1" * 600, tasks=30), run("b", "0" * 600, tasks=30)])
    assert not any(task.stands_out for task in everywhere.pairs[0].tasks)


def graded(name: str, progress: list[float]) -> Outcomes:
    episodes = {("t", i): {"metrics": {"success": False, "progress": v}} for i, v in enumerate(progress)}
    return outcomes(name, merged(episodes))


def test_graded_metrics() -> None:
    base = [i % 7 / 10 for i in range(40)]
    runs = [graded("a", base), graded("b", [v + 0.1 + i % 3 / 50 for i, v in enumerate(base)]), graded("c", base)]
    found = compare(runs, metric="progress")
    up, same = found.pairs
    assert (up.verdict, up.gained, up.lost, up.flips) == ("higher", 40, 0, [])
    assert up.p == 1e-4 and up.interval is not None and up.interval.low == pytest.approx(0.114, abs=2e-3)
    assert (same.verdict, same.p, same.interval, same.more_episodes) == ("inconclusive", 1.0, None, None)
    assert compare(runs, metric="progress", min_difference=0.2).pairs[0].verdict == "lower"
    assert "higher in" in printed(found) and found.runs[0].over_tasks is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"benchmark": "Other"}, "benchmark is 'Other', not 'Made'"),
        ({"seed": 8}, "seed is 8, not 7"),
        ({"mode": "live"}, "mode is 'live', not 'sync'"),
        ({"config": {"benchmark": "made:Made", "params": {"seed": 8}}}, "params.seed is 8, not 7"),
        ({"config": {"benchmark": "b", "params": {"seed": 7}}}, "target is 'b', not 'made:Made'"),
        ({"config": {"benchmark": "made:Made", "params": {"seed": 7, "suite": "x"}}}, "params.suite is 'x', not None"),
    ],
)
def test_what_does_not_pair_is_refused_with_the_difference(change: dict[str, Any], words: str) -> None:
    content = merged({("t0", 0): {"metrics": {"success": True}}, ("t1", 0): {"metrics": {"success": True}}})
    with pytest.raises(ConfigurationError, match=f"^b does not pair with a: {words}$"):
        compare([run("a", "11"), outcomes("b", {**content, **change})])


def test_versions_and_limits_differ_only_where_both_tell() -> None:
    def told(name: str, requirements: list[str], steps: int | None) -> Outcomes:
        content = merged({("t", 0): {"metrics": {"success": True}}})
        config = {**content["config"], "environment": {"requirements": requirements}, "max_steps": steps}
        return outcomes(name, {**content, "config": config})

    compare([told("a", ["sim==1"], 100), told("b", [], None)])
    with pytest.raises(ConfigurationError, match="max_steps is 90, not 100; environment.requirements is"):
        compare([told("a", ["sim==1"], 100), told("b", ["sim==2"], 90)])


def won(*keys: tuple[str, int], seed: int = 1) -> dict[str, Any]:
    return merged({key: {"metrics": {"success": True}, "seed": seed} for key in keys})


def test_tasks_and_seeds_that_differ_are_named() -> None:
    with pytest.raises(ConfigurationError, match="tasks only in b: t1; tasks only in a: t2"):
        compare([outcomes("a", won(("t0", 0), ("t2", 0))), outcomes("b", won(("t0", 0), ("t1", 0)))])
    with pytest.raises(ConfigurationError, match="t episode 0 has seed 2, not 1"):
        compare([outcomes("a", won(("t", 0))), outcomes("b", won(("t", 0), seed=2))])


def test_nothing_to_compare() -> None:
    with pytest.raises(ConfigurationError, match="a and b: no episode that both completed"):
        compare([run("a", "1x"), run("b", "x1")])
    with pytest.raises(ConfigurationError, match="unknown metric 'sucess': did you mean success"):
        compare([run("a", "11"), run("b", "11")], metric="sucess")
    for wrong in ({"alpha": 0.0}, {"alpha": 1.5}, {"min_difference": 100.0}, {"min_difference": float("nan")}):
        with pytest.raises(ConfigurationError, match="valid: between"):
            compare([run("a", "11"), run("b", "11")], **wrong)  # type: ignore[arg-type]


def test_equal_checkpoints_are_rarely_told_apart() -> None:
    wrong = 0
    for sweep in range(40):
        runs = [run(str(i), chances(100 * sweep + i, 0.7, 60)) for i in range(6)]
        wrong += any(pair.verdict != "inconclusive" for pair in compare(runs).pairs)
    assert wrong <= 4


def printed(found: Comparison, flips: bool = False, terminal: bool = False) -> str:
    stream = io.StringIO()
    print_comparison(Console(file=stream, force_terminal=terminal, width=160), found, flips)
    return stream.getvalue()


def test_printed() -> None:
    text = printed(
        compare([run("[a]", "1" * 50 + "0" * 50), run("b", "1" * 62 + "0" * 38)], min_difference=1), flips=True
    )
    assert text.splitlines()[:6] == [
        "run  episodes       success [95 %]  over tasks [95 %]  letters",
        "[a]       100  50.0 % [40.4, 59.6]       [0.0, 100.0]  b",
        "b         100  62.0 % [52.2, 70.9]       [0.0, 100.0]  a",
        "",
        "against [a] + 1 points  pairs      points [95 %]  gained  lost       p  verdict",
        "b                         100  +12.0 [7.0, 19.8]      12     0  <0.001  better",
    ]
    assert text.splitlines()[-1].split() == ["b", "t1", "11", "gained"]
    assert "verdict" in printed(compare([run("a", "10"), run("b", "11")]), terminal=True)


def test_printed_inconclusive() -> None:
    text = printed(compare([run("a", chances(1, 0.80, 200)), run("b", chances(2, 0.83, 200)), run("c", "p" * 200)]))
    assert "runs that share a letter are not told apart (all pairs, Holm, alpha 0.05)" in text
    assert "more episodes would decide" in text and "pairs would have shown a difference of" in text
    assert "c: the policy's own failures count as lost: policy_error 200" in text
    assert "is the highest of 2 that are not told apart" in text
    assert "inconclusive: no difference seen" in printed(compare([run("a", "10"), run("b", "01")]))
