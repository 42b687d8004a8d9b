from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.config.schema import ClusterConfig, Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch import rounds, slurm
from vlaeval_hpc.launch.jobs import Job, Submission, record
from vlaeval_hpc.launch.rounds import _cancelled, _rounds_by_merges, go_on

JOBS = Submission([Job("server", "5", [[0]]), Job("shards", "6", [[0], [1]]), Job("merge", "7", [[]])])


@pytest.mark.parametrize(
    ("server", "first", "second", "expected"),
    [
        (None, "CANCELLED", "COMPLETED", True),
        (None, "CANCELLED", "CANCELLED", True),
        ("CANCELLED", "FAILED", "FAILED", True),
        ("FAILED", "FAILED", "FAILED", False),
        (None, "CANCELLED", "NODE_FAIL", False),  # what else befell them was nobody's wish
        (None, "COMPLETED", "COMPLETED", False),
        (None, "OUT_OF_MEMORY", "TIMEOUT", False),
    ],
)
def test_what_somebody_wanted_to_end_is_not_started_again(
    server: str | None, first: str, second: str, expected: bool
) -> None:
    ended = {"6_0": first, "6_1": second, **({"5": server} if server else {})}
    assert _cancelled(JOBS, ended) is expected


def test_a_person_who_resumes_begins_the_count_anew() -> None:
    by_merge = Submission([], by_merge=True)
    assert _rounds_by_merges([Submission([]), by_merge, by_merge]) == 2
    assert _rounds_by_merges([by_merge, Submission([])]) == 0


@pytest.mark.parametrize(
    ("tries", "by_merges", "told"),
    [
        (36, 0, "cluster: no squeue here"),
        (
            33,
            0,
            "these jobs got no further",
        ),  # three tries of each of eleven episodes are left
        (36, 3, "cluster.max_resubmits=3"),
    ],
)
def test_what_is_not_submitted_again_is_told_with_the_command_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int, by_merges: int, told: str
) -> None:
    def nowhere(command: list[str], _: str | None = None) -> NoReturn:
        raise ConfigurationError(f"cluster: no {command[0]} here")

    plan = made_plan(shards=2)
    run = made_run(tmp_path / "a run", plan)
    write_journal(run, plan, 0, [made_record(plan.items[0])])
    record(run, [JOBS, *[Submission(JOBS.jobs, tries=tries, by_merge=by_merges > 0)] * max(by_merges, 1)])
    monkeypatch.setattr(rounds, "from_yaml", lambda _: Config(cluster=ClusterConfig(name="slurm", scheduler="slurm")))
    monkeypatch.setattr(slurm, "max_array_size", lambda: 1001)
    monkeypatch.setattr(slurm, "_run", nowhere)
    *_, line = go_on(run)
    assert line.startswith("not submitted again: ") and told in line
    assert line.endswith(f"to finish what is open: python -m vlaeval_hpc resume '{run.root}'")


def test_a_finished_run_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_plan(shards=2)
    run = made_run(tmp_path, plan)
    write_journal(run, plan, 0, [made_record(item) for item in plan.items])
    record(run, [JOBS])
    monkeypatch.setattr(rounds, "from_yaml", lambda _: Config())
    assert go_on(run) == []
