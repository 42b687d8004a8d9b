"""Episodes as a table: the Parquet file of a run, with one schema whatever the benchmark."""

from __future__ import annotations

import json
import math
import operator
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_atomic
from vlaeval_hpc.run.journal import Episode
from vlaeval_hpc.run.plan import Plan

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COLUMNS = {
    "run": "VARCHAR",
    "model": "VARCHAR",
    "checkpoint": "VARCHAR",
    "benchmark": "VARCHAR",
    "task": "VARCHAR",
    "episode_id": "BIGINT",
    "seed": "BIGINT",
    "success": "DOUBLE",
    "steps": "BIGINT",
    "elapsed_sec": "DOUBLE",
    "failure_reason": "VARCHAR",
    "attempts": "BIGINT",
    "started_at": "TIMESTAMP",
    "finished_at": "TIMESTAMP",
    "host": "VARCHAR",
    "shard": "BIGINT",
    "metrics": "MAP(VARCHAR, DOUBLE)",
}
"""Columns and their types; success is 1 or 0, so that its mean is the rate, and times are UTC."""

THREADS = 8

_NUMBERS = frozenset(("episode_id", "seed", "success", "steps", "elapsed_sec", "attempts", "shard"))
_TIMES = frozenset(("started_at", "finished_at"))


class Subject(NamedTuple):
    """Whose episodes they are: the run's folder, and what of its plan tells runs apart."""

    run: str
    model: str | None
    checkpoint: str | None
    benchmark: str


def subject(run: str, plan: Mapping[str, Any]) -> Subject:
    """From a plan's `model` and `name`."""
    model = plan["model"]
    checkpoint = model.get("checkpoint")
    return Subject(run, model.get("name"), None if checkpoint is None else str(checkpoint), plan["name"])


def episodes_path(directory: RunDirectory) -> Path:
    """Where a run's table lies: beside merged.json."""
    return directory.merged.with_name("episodes.parquet")


def write_episodes(directory: RunDirectory, plan: Plan, episodes: Iterable[Episode]) -> None:
    """Replace the run's table by these settled episodes. Raises InfrastructureError where it cannot be written."""
    con = connection()
    create(con, "mine")
    fill(con, "mine", subject(directory.root.resolve().name, vars(plan)), episodes)
    write_query(con, "SELECT * FROM mine ORDER BY task, episode_id", episodes_path(directory))


def connection() -> DuckDBPyConnection:
    """A database in memory that fetches nothing from a network, and leaves a login node's other cores alone."""
    import duckdb

    threads = min(len(os.sched_getaffinity(0)), THREADS)
    return duckdb.connect(config={"autoinstall_known_extensions": False, "threads": threads})


def create(con: DuckDBPyConnection, table: str) -> None:
    """An empty table of episodes."""
    con.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")


def fill(con: DuckDBPyConnection, table: str, whose: Subject, episodes: Iterable[Episode]) -> None:
    """Add settled episodes to a table; a value of another type than the column's is missing."""
    import numpy as np

    rows = list(episodes)
    if not rows:
        return
    given: dict[str, Callable[[Episode], Any]] = {
        **{name: operator.methodcaller("get", name) for name in COLUMNS},
        "success": lambda e: e["metrics"].get("success"),
        "metrics": lambda e: json.dumps({k: v for k, v in e["metrics"].items() if _is_number(v)}),
    }
    columns: dict[str, Any] = {}
    picked = []
    for name, kind in COLUMNS.items():
        if name in Subject._fields:
            picked.append(f"${name}::VARCHAR")
        elif name in _NUMBERS | _TIMES:
            numbers = [v if _is_number(v := given[name](e)) else math.nan for e in rows]
            columns[name] = np.array(numbers, dtype=float)
            value = f"make_timestamp(({name} * 1e6)::BIGINT)" if name in _TIMES else f"{name}::{kind}"
            picked.append(f"CASE WHEN isnan({name}) THEN NULL ELSE {value} END")
        elif name == "metrics":
            columns[name] = np.array(list(map(given[name], rows)), dtype=object)
            picked.append(f"CAST({name}::JSON AS {kind})")
        else:
            texts = [None if (v := given[name](e)) is None else str(v) for e in rows]
            columns[name] = np.array(texts, dtype=object)
            picked.append(f"{name}::VARCHAR")
    con.register("given", columns)
    con.execute(f"INSERT INTO {table} SELECT {', '.join(picked)} FROM given", whose._asdict())
    con.unregister("given")


def write_query(con: DuckDBPyConnection, query: str, path: Path, metadata: str = "") -> None:
    """Replace `path` by what a query finds, as Parquet; `metadata` is kept in it under the key `about`."""
    about = f", KV_METADATA {{about: {quoted(metadata)}}}" if metadata else ""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.parquet"
        con.execute(f"COPY ({query}) TO {quoted(str(made))} (FORMAT parquet, COMPRESSION zstd{about})")
        write_atomic(path, made.read_bytes())


def quoted(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _is_number(value: Any) -> bool:
    # Beyond 2**53 a float is no longer the integer: seeds stay below.
    return isinstance(value, (int, float)) and math.isfinite(value)
