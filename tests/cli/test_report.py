"""`report`: where pages go, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.cli.report import main
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.excerpts import excerpts
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.results.sweep import Points, SweepFolder
from vlaeval_hpc.run.directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLAEVAL_HPC_CACHE", str(tmp_path / "cache"))
    plan = made_plan(1)
    run = made_run(tmp_path / "results" / "r", plan)
    write_journal(run, plan, 0, [made_record(item) for item in plan.items])
    return run


def test_each_page_lies_where_it_belongs(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = SweepFolder("results/sweeps/s")
    sweep.save(Points(varied=["seed"]))
    for path, page in (("results/r", "report.html"), ("results/sweeps/s", "sweep.html"), ("results", "index.html")):
        assert main([path]) == 0
        assert capsys.readouterr().out == f"{path}/{page}\n" and Path(path, page).read_text().startswith(
            "<!doctype html>"
        )
    assert main(["results", "-o", "elsewhere.html"]) == 0
    assert 'href="results/r/report.html"' in Path("elsewhere.html").read_text()


def test_merge_writes_the_runs_page(run: RunDirectory) -> None:
    merge_into_files(run)
    page = run.root / "report.html"
    assert "12" in page.read_text() and page.stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("results/r/plan.json", "not a folder"),
        ("results --against results/r", "--against: results is no run directory"),
        ("results/r --against results", "not a run directory"),
        ("results/r -o no/such/x.html", "no such folder: no/such"),
        ("", "the following arguments are required"),
    ],
)
def test_refused_in_one_line(run: RunDirectory, arguments: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        main(arguments.split())
    assert "\n" not in str(refused.value)


def test_excerpts_of_logs_here_and_of_jobs(run: RunDirectory) -> None:
    (run.logs / "shard-0.log").write_text("x\n[0/9] a b episode 1: first\ny\n[1/9] a b episode 1: again\nz\n")
    job = run.root / "jobs" / "1"
    job.mkdir(parents=True)
    many = "".join(f"line {n}\n" for n in range(50))
    (job / "12_0_log.out").write_bytes(many.encode() + b"[3/9] c episode 4: bad \xff")
    found = excerpts(run, {("a b", 1), ("c", 4), ("d", 0)})
    assert found["a b", 1] == ["logs/shard-0.log:", "y", "[1/9] a b episode 1: again"]
    assert len(found["c", 4]) == 21 and found["c", 4][0] == "jobs/1/12_0_log.out:" and found["c", 4][1] == "line 31"
    assert ("d", 0) not in found
