"""A lab's own package with adapters and configs, installed beside ours: chosen by name, evaluated in an environment of
its own that does not have it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import ROOT, TESTS, Command
from tests.toys import merged
from vlaeval_hpc.config import plugins as module
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch import runtime
from vlaeval_hpc.launch.images import Image
from vlaeval_hpc.launch.runtime import Runtime

CONFIGS = {
    "benchmark/mylab_bench.yaml": """
name: mylab_bench
target: mylab.adapters.bench:Bench
params: {}
seed: 3
environment: {kind: venv}
""",
    "model/mylab.yaml": """
name: mylab
target: mylab.adapters.policy:Steers
params:
  dim: ???
""",
    "pairing/mylab_mylab_bench.yaml": """
# @package _global_
model: {params: {dim: 2}}
""",
}

ALONE = """
import importlib.util
import mylab.adapters
import sys
assert importlib.util.find_spec("beside") is None, sys.path
print(sys.prefix)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What `pip install mylab` leaves."""
    package = tmp_path / "site" / "mylab"
    (package / "adapters").mkdir(parents=True)
    for folder in (package, package / "adapters"):
        (folder / "__init__.py").touch()
    toy = (TESTS / "doubles" / "toy.py").read_text().replace("class Toy", "class Bench")
    (package / "adapters" / "bench.py").write_text(toy + ALONE)
    pilot = (TESTS / "doubles" / "pilot.py").read_text().replace("class Pilot", "class Steers")
    (package / "adapters" / "policy.py").write_text(pilot.replace("from .toy", "from mylab.adapters.bench"))
    for name, text in CONFIGS.items():
        (package / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (package / "conf" / name).write_text(text)
    info = package.with_name("mylab-1.2.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[vlaeval_hpc]\nmylab = mylab\n")
    package.with_name("beside.py").touch()  # as the host's own packages are
    return package.parent


def test_a_plugin_is_chosen_by_name_and_runs_in_its_environment(vlaeval: Command, site: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(site)])
    done = vlaeval("model=mylab", "benchmark=mylab_bench", "run=a", "benchmark.max_tasks=1", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert merged(tmp_path, "a")["num_episodes"] == 3
    run = tmp_path / "results" / "a"
    assert json.loads((run / "provenance.json").read_text())["plugins"] == {"mylab": "mylab 1.2"}
    assert "environments/mylab_bench-" in (run / "logs" / "shard-0.log").read_text()
    told = vlaeval("model=mylba", PYTHONPATH=path)
    assert "did you mean mylab?" in told.stderr
    assert "unknown model 'mylab'" in vlaeval("model=mylab").stderr


def test_a_container_gets_the_package_and_nothing_beside_it(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    module.plugins.cache_clear()
    try:
        inside = Runtime(EnvironmentConfig(kind="image"), "python3", Image(tmp_path / "x.sif", "x", "sha256:1"))
        monkeypatch.setattr(runtime, "exec_command", lambda image, command, **given: given["binds"])
        binds = inside.command("vlaeval_hpc.worker", [], scratch=tmp_path)
        assert f"{site / 'mylab'}:/opt/vlaeval_hpc_plugins/mylab:ro" in binds
        folders = json.loads(inside.variables()["APPTAINERENV_VLAEVAL_HPC_PLUGINS"])
        assert folders == {"mylab": "/opt/vlaeval_hpc_plugins/mylab"}
        (site / "mylab-1.2.dist-info" / "entry_points.txt").write_text("[vlaeval_hpc]\nx = nosuch:thing\n")
        module.plugins.cache_clear()
        with pytest.raises(ConfigurationError, match=r"^mylab 1\.2: entry point .* x = nosuch:thing: valid: a package"):
            module.plugins()
    finally:
        monkeypatch.undo()
        module.plugins.cache_clear()
