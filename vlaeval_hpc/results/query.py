"""SQL over all episodes and runs of a results root."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.results.episodetable import (
    COLUMNS,
    Subject,
    connection,
    create,
    episodes_path,
    fill,
    quoted,
    write_query,
)
from vlaeval_hpc.results.index import Entry, Index, Signature
from vlaeval_hpc.results.rundir import merge_settled

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FEW = 100  # runs that may lie outside of the pack before it is made anew
BATCH = 1000

_OTHERS = f"SELECT {', '.join(COLUMNS)} FROM others"
_TABLE = "/episodes.parquet"

RUNS = {
    "run": "VARCHAR",
    "state": "VARCHAR",
    "model": "VARCHAR",
    "checkpoint": "VARCHAR",
    "benchmark": "VARCHAR",
    "planned": "BIGINT",
    "finished": "BIGINT",
    "errors": "BIGINT",
    "metric": "VARCHAR",
    "n": "BIGINT",
    "mean": "DOUBLE",
    "low": "DOUBLE",
    "high": "DOUBLE",
    "owner": "VARCHAR",
    "created_at": "TIMESTAMP",
    "changed_at": "TIMESTAMP",
    "merged": "BOOLEAN",
}
"""Columns of the table `runs`; mean of metric over n episodes, with its 95 % interval."""


class Query:
    """The answer to one statement: names of columns, and rows that come as they are read."""

    def __init__(self, con: DuckDBPyConnection) -> None:
        self._con = con
        self.columns = [str(column[0]) for column in con.description or []]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """All rows, once. Raises ConfigurationError where a value cannot be computed."""
        import duckdb

        try:
            while batch := self._con.fetchmany(BATCH):
                yield from batch
        except duckdb.Error as error:
            raise ConfigurationError(f"query: {_line(error)}") from None


def query(index: Index, cache: Path, sql: str) -> Query:
    """Run one SELECT over `episodes` and `runs`; finished runs are kept together in one file in the folder `cache`.

    Raises ConfigurationError where it is no statement that only reads, or is wrong.
    """
    import duckdb

    con = connection()
    _check(con, sql)
    _load_runs(con, index)
    _load_episodes(con, index, cache)
    con.execute("SET lock_configuration = true")
    try:
        con.execute(sql)
    except duckdb.Error as error:
        raise ConfigurationError(f"query: {_line(error)}") from None
    return Query(con)


def _check(con: DuckDBPyConnection, sql: str) -> None:
    import duckdb

    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise ConfigurationError(f"query: {_line(error)}") from None
    if len(statements) != 1:
        raise ConfigurationError(f"query: {len(statements)} statements: valid: one SELECT")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:  # EXPLAIN ANALYZE runs what it explains
        raise ConfigurationError(f"query: {kind.name}: nothing is written here: valid: SELECT, DESCRIBE, SUMMARIZE")


def _line(error: Exception) -> str:
    """What DuckDB says, without the picture of the statement."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def _load_runs(con: DuckDBPyConnection, index: Index) -> None:
    con.execute(f"CREATE TABLE runs ({', '.join(f'{name} {kind}' for name, kind in RUNS.items())})")
    if not index.runs:
        return
    rows = [{**entry._asdict(), "run": entry.path} for entry in index.runs]
    picked = [
        f"make_timestamp((r.{name} * 1e6)::BIGINT)" if kind == "TIMESTAMP" else f"r.{name}"
        for name, kind in RUNS.items()
    ]
    shape = json.dumps([{n: "DOUBLE" if kind == "TIMESTAMP" else kind for n, kind in RUNS.items()}])
    con.execute(
        f"INSERT INTO runs SELECT {', '.join(picked)} FROM (SELECT unnest(from_json($rows, $shape)) AS r)",
        {"rows": json.dumps(rows), "shape": shape},
    )


def _load_episodes(con: DuckDBPyConnection, index: Index, cache: Path) -> None:
    """The view `episodes`: of the pack those runs that are as they were, and the others by themselves."""
    pack = cache / "episodes.parquet"
    packed = _packed(con, pack)
    create(con, "others")
    still = {entry.path: entry.signature for entry in index.runs if entry.state != "running"}
    current = {path for path, signature in still.items() if packed.get(path) == signature}
    parts = _pack_part(pack, packed, current)
    fresh = [entry for entry in index.runs if entry.path in still and entry.path not in current]
    if len(fresh) > FEW:
        both = parts + _parts(con, fresh, index)
        try:
            cache.mkdir(parents=True, exist_ok=True)
            write_query(con, " UNION ALL ".join(both), pack, json.dumps(still))
            con.execute("TRUNCATE others")
            parts = _pack_part(pack, still, set(still))
        except (OSError, InfrastructureError):
            parts = both  # a cache that cannot be written costs time, no more
    else:
        parts += _parts(con, fresh, index)
    parts += _parts(con, [entry for entry in index.runs if entry.path not in still], index)
    con.execute(f"CREATE VIEW episodes AS {' UNION ALL '.join(dict.fromkeys([*parts, _OTHERS]))}")


def _packed(con: DuckDBPyConnection, pack: Path) -> dict[str, Signature]:
    """Which runs the pack holds, as of which signature."""
    import duckdb

    if not pack.exists():
        return {}
    try:
        found = con.execute(
            f"SELECT decode(value) FROM parquet_kv_metadata({quoted(str(pack))}) WHERE decode(key) = 'about'"
        ).fetchall()
        shape = con.execute(f"DESCRIBE SELECT * FROM {quoted(str(pack))}").fetchall()
        about: dict[str, Signature] = json.loads(found[0][0]) if found else {}
    except (duckdb.Error, ValueError):
        return {}
    return about if {row[0]: row[1] for row in shape} == COLUMNS else {}


def _pack_part(pack: Path, packed: Mapping[str, Signature], current: set[str]) -> list[str]:
    """A SELECT over the pack's runs that are current, where there are any."""
    if not current:
        return []
    stale = sorted(packed.keys() - current)
    where = f" WHERE run NOT IN ({', '.join(map(quoted, stale))})" if stale else ""
    return [f"SELECT {', '.join(COLUMNS)} FROM read_parquet({quoted(str(pack))}){where}"]


def _parts(con: DuckDBPyConnection, entries: list[Entry], index: Index) -> list[str]:
    """SELECTs over runs: their own Parquet where merge wrote one, else the table `others`, filled from journals."""
    own = [entry for entry in entries if _has_table(index, entry)]
    if not _readable(con, index, own):
        own = [entry for entry in own if _readable(con, index, [entry])]
    taken = {entry.path for entry in own}
    rest = [entry for entry in entries if entry.path not in taken]
    for entry in rest:
        with suppress(ConfigurationError):  # gone since the index was made
            _, plan, standing = merge_settled(index.run(entry))
            fill(con, "others", Subject(entry.path, entry.model, entry.checkpoint, plan.name), standing.values())
    # A run is named by where it lies: a folder may have been renamed since it was merged.
    begin, end = len(str(index.root)) + 1, len(_TABLE)
    run = f"substr(filename, {begin + 1}, length(filename) - {begin + end}) AS run"
    names = ", ".join(run if name == "run" else name for name in COLUMNS)
    tables = f"SELECT {names} FROM read_parquet({_files(index, own)}, filename = true)"
    return [*([tables] if own else []), *([_OTHERS] if rest else [])]


def _has_table(index: Index, entry: Entry) -> bool:
    """Whether a run's table is newer than all that its shards wrote."""
    run = index.run(entry)
    try:
        written = episodes_path(run).stat().st_mtime_ns
        with os.scandir(run.shards) as files:
            return all(f.stat().st_mtime_ns < written for f in files if f.name.endswith((".json", ".jsonl")))
    except OSError:
        return False


def _readable(con: DuckDBPyConnection, index: Index, entries: list[Entry]) -> bool:
    """Whether all tables are whole, and of our schema."""
    import duckdb

    if not entries:
        return True
    ours = ", ".join(map(quoted, COLUMNS))
    try:
        found = con.execute(
            f"SELECT count(*) FILTER (n = {len(COLUMNS)}) FROM (SELECT count(DISTINCT name) AS n"
            f" FROM parquet_schema({_files(index, entries)}) WHERE name IN ({ours}) GROUP BY file_name)"
        ).fetchall()
    except duckdb.Error:
        return False
    return found == [(len(entries),)]


def _files(index: Index, entries: list[Entry]) -> str:
    return "[" + ", ".join(quoted(f"{index.root}/{entry.path}{_TABLE}") for entry in entries) + "]"
