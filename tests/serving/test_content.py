"""What a checkpoint held when a run was planned, and a server that finds something else in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.toys import TOY
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.serving.content import check_unchanged, contents


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "a.bin", tmp_path / "b.bin"]
    for path in made:
        path.write_text(path.name)
        os.utime(path, (1e9, 1e9))
    return made


def test_the_same_wherever_it_lies_and_however_young(files: list[Path], tmp_path: Path) -> None:
    planned = contents(files)
    check_unchanged(files, planned)
    os.utime(files[0])
    (tmp_path / "copy").mkdir()
    elsewhere = [path.rename(tmp_path / "copy" / path.name) for path in files]
    check_unchanged(elsewhere, planned)


def test_what_is_known_by_size_and_time_is_not_read(files: list[Path]) -> None:
    planned = contents(files)
    files[0].write_text("other")
    os.utime(files[0], (1e9, 1e9))
    check_unchanged(files, planned)


def test_other_content_and_missing_files_are_told(files: list[Path]) -> None:
    planned = contents(files)
    files[1].write_text("B.bin")
    with pytest.raises(ConfigurationError, match="b.bin has changed since the run was planned"):
        check_unchanged(files, planned)
    files[1].unlink()
    with pytest.raises(ConfigurationError, match="b.bin: No such file or directory"):
        check_unchanged(files, planned)


def test_a_server_does_not_serve_what_was_overwritten(vlaeval: Command, tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights"
    checkpoint.write_text("half")
    planned = vlaeval(*TOY, "model.checkpoint=weights", "run=a", "submit=false")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    checkpoint.write_text("half and half")
    served = vlaeval("serve", "results/a")
    assert served.returncode == 2 and "weights has changed since the run was planned" in served.stderr
    again = vlaeval(*TOY, "model.checkpoint=weights", "run=a")
    assert again.returncode == 2 and "the checkpoint's content has changed" in again.stderr
