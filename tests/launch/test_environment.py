from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.environment import (
    _with_certificates,
    environment_folder,
    interpreter,
    process_environment,
)

SMALL = EnvironmentConfig(kind="venv", requirements=["six==1.16.0"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLAEVAL_HPC_CACHE", str(tmp_path / "it's a cache"))
    return tmp_path / "it's a cache"


def test_made_once_whoever_asks_and_offline_afterwards(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: interpreter(SMALL, "small", heard.append), range(4)))
    assert len(found) == 1 and sum("preparing" in line for line in heard) == 1
    python = found.pop()
    assert subprocess.run([str(python), "-c", "import six, numpy, websockets"], check=False).returncode == 0
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert interpreter(SMALL, "small", pytest.fail) == python


def test_what_a_builder_that_died_left_is_made_anew(cache: Path) -> None:
    folder = environment_folder(SMALL, "small")
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("torn")
    python = interpreter(SMALL, "small", lambda line: None)
    assert subprocess.run([str(python), "-c", "import six"], check=False).returncode == 0


def test_a_requirement_that_is_none_is_told_in_one_line(cache: Path) -> None:
    wrong = replace(SMALL, requirements=["no-such-package-of-vlaeval==9"])
    with pytest.raises(ConfigurationError, match="small.environment: cannot be made") as caught:
        interpreter(wrong, "small", lambda line: None)
    assert "\n" not in str(caught.value) and ".log" in str(caught.value)


def test_content_names_the_folder() -> None:
    first = environment_folder(SMALL, "small")
    assert first == environment_folder(replace(SMALL, variables={"A": "1"}), "small")
    assert first != environment_folder(replace(SMALL, requirements=["six==1.17.0"]), "small")
    assert first != environment_folder(replace(SMALL, python="3.12"), "small")


def test_another_pythons_packages_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/elsewhere")
    found = process_environment(replace(SMALL, variables={"OMP_NUM_THREADS": "4"}))
    assert not {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"} & set(found)
    assert found["OMP_NUM_THREADS"] == "4" and found["MKL_NUM_THREADS"] == "1"


def test_a_wheel_runs_from_any_folder(tmp_path: Path, metaworld_python: Path) -> None:
    """conf travels inside the package: the main job from an installed copy, with a quote in the path."""
    folder = tmp_path / "an installed 'copy'"
    uv = str(Path(sys.executable).parent / "uv")
    known = _with_certificates()
    subprocess.run([uv, "build", "-q", "--wheel", "-o", str(tmp_path), str(ROOT)], check=True, env=known)
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    wheel = str(next(tmp_path.glob("*.whl")))
    subprocess.run([uv, "pip", "install", "-q", "--python", python, wheel], check=True, env=known)
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [python, "-m", "vlaeval_hpc", "benchmark.tasks=[door-open-v3]", "benchmark.episodes_per_task=2", "run=a"],
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100.0 %" in done.stdout
    assert (tmp_path / "work" / "results" / "a" / "merged.csv").is_file()
