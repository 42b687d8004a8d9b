from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.run.files import read_json, write_atomic, write_json
from vlaeval_hpc.run.rendezvous import Rendezvous


def test_a_file_is_replaced_whole_and_nothing_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(InfrastructureError, match="no-folder"):
        write_atomic(tmp_path / "no-folder" / "b", "x")
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_umask_holds_and_private_files_are_private_whatever_it_is(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        write_atomic(tmp_path / "open", "x")
        Rendezvous("r", 0, ["ws://h:1"], "secret", "n", "h", 1).publish(tmp_path / "private")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"a": ')
    with pytest.raises(ConfigurationError, match=r"torn\.json: not readable"):
        read_json(tmp_path / "torn.json")


def test_a_rendezvous_that_cannot_be_understood_is_none(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert Rendezvous.read(path) is None
    for text in ("", "{", "[]", "{}", '{"run": 1}'):
        path.write_text(text)
        assert Rendezvous.read(path) is None
    known = Rendezvous("r", 0, ["ws://h:1"], "t", "n", "h", 1)
    known.publish(path)
    found = Rendezvous.read(path)
    assert found is not None and found.urls == known.urls and found.published > 0
