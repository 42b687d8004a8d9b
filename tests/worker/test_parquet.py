"""Parquet files that others read: by DuckDB and by PyArrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlaeval_hpc.worker.parquet import parquet


def columns(rows: int, dim: int) -> dict[str, Any]:
    rng = np.random.default_rng(rows * 31 + dim)
    return {
        "task": [f"pick up the “bowl” {i}" for i in range(rows)],
        "step": np.arange(rows),
        "done": rng.integers(0, 2, rows).astype(bool),
        "share": rng.normal(size=rows),
        "action": rng.normal(size=(rows, dim)).astype(np.float32),
        "state": rng.normal(size=(rows, dim + 1)),
        **{f"more{i}": rng.normal(size=rows).astype(np.float32) for i in range(12)},
    }


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 300), dim=st.integers(1, 40))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: int, dim: int) -> None:
    made = columns(rows, dim)
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    path.write_bytes(parquet(made, {"seed": "7"}))
    table = pyarrow.parquet.read_table(path)
    assert table.schema.metadata[b"seed"] == b"7"
    assert table.column_names == list(made)
    for name, values in made.items():
        plain = values if isinstance(values, list) else values.tolist()
        assert table[name].to_pylist() == plain, name
    ours = duckdb.sql(f"SELECT step, action, done FROM '{path}'").fetchall()
    assert [row[0] for row in ours] == list(range(rows))
    assert all(row[1] == pytest.approx(a.tolist()) for row, a in zip(ours, made["action"], strict=True))


def test_the_same_columns_are_the_same_file() -> None:
    assert parquet(columns(20, 3), {}) == parquet(columns(20, 3), {})


def test_columns_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match=r"columns of \[2, 3\] rows"):
        parquet({"a": np.zeros(2), "b": np.zeros(3)}, {})


def test_many_files_are_one_table(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.parquet").write_bytes(parquet(columns(5, 2), {}))
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/*.parquet'").fetchall() == [(15,)]
