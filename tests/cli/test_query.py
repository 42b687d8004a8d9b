"""`query`: SQL over a results root, whatever state its runs are in."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.cli.query import main
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results import query as query_module
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.run.directory import RunDirectory

COUNTS = "select run, count(*) as n, sum(success) as won from episodes group by run order by run"


def some_run(root: Path, won: int, episodes: int = 4, merge: bool = True) -> RunDirectory:
    """3 tasks of which each is won in the first `won` episodes."""
    plan = made_plan(shards=1, episodes=episodes)
    run = made_run(root, plan)
    write_journal(run, plan, 0, [made_record(i, i.episode < won) for i in plan.items])
    if merge:
        merge_into_files(run)
    return run


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLAEVAL_HPC_CACHE", str(tmp_path / "cache"))
    some_run(tmp_path / "results" / "a", won=1)
    some_run(tmp_path / "results" / "p" / "b'c", won=2)
    old = some_run(tmp_path / "results" / "old", won=3)
    (old.root / "episodes.parquet").unlink()
    some_run(tmp_path / "results" / "open", won=4, merge=False)
    return tmp_path / "results"


def ask(root: Path, sql: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main([str(root), sql, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


ALL = [
    {"run": "a", "n": 12, "won": 3.0},
    {"run": "old", "n": 12, "won": 9.0},
    {"run": "open", "n": 12, "won": 12.0},
    {"run": "p/b'c", "n": 12, "won": 6.0},
]


def test_every_run_by_whatever_it_has(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(root, COUNTS, capsys) == ALL
    assert ask(f"{root}/", COUNTS, capsys) == ALL  # type: ignore[arg-type]
    states = ask(root, "select state, count(*) as n, sum(finished) as finished from runs group by state", capsys)
    assert states == [{"state": "done", "n": 4, "finished": 48}]


def test_from_the_pack_and_from_what_changed_since(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_module, "FEW", 2)
    assert ask(root, COUNTS, capsys) == ALL
    (pack,) = (root.parent / "cache").rglob("episodes.parquet")
    written = pack.stat().st_mtime_ns
    # Only the pack can tell of them now.
    for run in ("a", "p/b'c"):
        (root / run / "episodes.parquet").write_bytes(b"not Parquet")
    assert ask(root, COUNTS, capsys) == ALL
    plan = made_plan(shards=1, episodes=5)
    run = RunDirectory(root / "old")
    plan.save(run.plan)
    write_journal(run, plan, 0, [made_record(i) for i in plan.items if i.episode == 4])
    os.rename(root / "open", root / "renamed")
    changed = [ALL[0], {"run": "old", "n": 15, "won": 12.0}, ALL[3], {"run": "renamed", "n": 12, "won": 12.0}]
    assert ask(root, COUNTS, capsys) == changed
    assert pack.stat().st_mtime_ns == written
    monkeypatch.setattr(query_module, "FEW", 1)
    assert ask(root, COUNTS, capsys) == changed
    assert pack.stat().st_mtime_ns > written


def test_a_torn_pack_is_made_anew(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_module, "FEW", 0)
    ask(root, COUNTS, capsys)
    (pack,) = (root.parent / "cache").rglob("episodes.parquet")
    pack.write_bytes(pack.read_bytes()[:100])
    assert ask(root, COUNTS, capsys) == ALL


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_table_that_is_no_table(root: Path, capsys: pytest.CaptureFixture[str], content: bytes | None) -> None:
    path = root / "a" / "episodes.parquet"
    if content is None:  # another schema
        path.unlink()
        duckdb.connect().execute(f"COPY (SELECT 1 AS run) TO '{path}'")
    else:
        path.write_bytes(content)
    assert ask(root, COUNTS, capsys) == ALL


def test_a_renamed_run_is_named_by_where_it_lies(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.rename(root / "a", root / "z")
    assert [row["run"] for row in ask(root, COUNTS, capsys)] == ["old", "open", "p/b'c", "z"]
    assert [row["run"] for row in ask(root / "z", COUNTS, capsys)] == ["."]


def test_as_a_table_and_as_csv(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([str(root), COUNTS]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["run", "n", "won"] and said[1].split() == ["a", "12", "3"] and len(said) == 5
    assert main([str(root), COUNTS, "--csv"]) == 0
    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1] == ["a", "12", "3.0"]
    assert main([str(root), "select finished_at, metrics, failure_reason from episodes limit 1"]) == 0
    assert "2023-11-14 22:13:21" in capsys.readouterr().out
    assert main([str(root), "select * from episodes where false", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    monkeypatch.setattr("vlaeval_hpc.cli.query.SHOWN", 5)
    assert main([str(root), "select task from episodes"]) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 6 and "the first 5 rows" in told.err


@pytest.mark.parametrize(
    "sql",
    [
        "copy episodes to 'x.csv'",
        "copy (select 1) to 'x.parquet'",
        "export database 'x'",
        "create table x as select 1",
        "attach 'x.db'",
        "install httpfs",
        "set memory_limit = '1GB'",
        "insert into runs select * from runs",
        "explain analyze copy episodes to 'x.csv'",
        "select 1; copy episodes to 'x.csv'",
        "select 1; select 2",
        "",
    ],
)
def test_what_writes_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sql: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(ConfigurationError, match="valid: ") as refused:
        main([str(root), sql])
    assert "\n" not in str(refused.value) and not list(here.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "select 1"], "nowhere: no such folder"),
        (["{root}", "select nothing from episodes"], 'query: Binder Error: .*"nothing" not found'),
        (["{root}", "select cast(task as int) from episodes"], "query: Conversion Error"),
        (["{root}", "selct 1"], "query: Parser Error"),
        (["{root}", "select 1", "--json", "--csv"], "--json and --csv: valid: one"),
    ],
)
def test_refused_in_one_line(root: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        main([argument.format(root=root) for argument in arguments])
    assert "\n" not in str(refused.value)


def test_no_file_is_left_in_the_root(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(root.rglob("*"))
    ask(root, COUNTS, capsys)
    assert sorted(root.rglob("*")) == before
