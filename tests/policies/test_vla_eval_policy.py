"""A model server of vla-eval's as a policy: its script, on vla-eval 0.8.0, in an environment that uv makes for it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command
from tests.policies.conftest import PEERS
from tests.serving.conftest import Start
from tests.serving.servers import PATIENCE, Talker
from tests.toys import TOY, merged, outcomes
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.vla_eval import VlaEval
from vlaeval_hpc.wire import messages as wire

SCRIPT = PEERS / "vla_eval_model.py"
TARGET = "vlaeval_hpc.policies.vla_eval:VlaEval"
SHOWN: dict[str, Any] = {"dim": 7, "cameras": ["agentview", "wrist"], "state_dim": 8}


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    """The script's environment, made before anything is timed."""
    from uv import find_uv_bin

    subprocess.run([find_uv_bin(), "run", "-q", "--script", str(SCRIPT), "--help"], check=True, capture_output=True)


def seen(value: int, **more: Any) -> dict[str, Any]:
    images = {name: np.full((8, 8, 3), value * i, np.uint8) for i, name in enumerate(("agentview", "wrist"), 1)}
    return {"images": images, "states": np.arange(8.0), "task_description": "go", **more}


def asked(talker: Talker, value: int) -> list[float]:
    found = talker.act(**seen(value))
    return [float(number) for number in np.atleast_2d(found)[0]]


def test_a_script_of_a_yaml_is_served(serving: Start, tmp_path: Path) -> None:
    """Its place is said as in vla-eval's repository, its port is ours, our arguments go before."""
    (tmp_path / "configs" / "deep").mkdir(parents=True)
    os.symlink(SCRIPT, tmp_path / "model.py")
    (tmp_path / "configs" / "_base.yaml").write_text("script: model.py\nargs: {port: 8000, offset: 1.5, dim: 7}\n")
    config = tmp_path / "configs" / "deep" / "one.yaml"
    config.write_text("extends: ../_base.yaml\nargs: {hz: 5}\n")
    params = {**SHOWN, "config": str(config), "args": {"offset": 2.5}, "gripper": "open_unit"}
    server = serving(target=TARGET, params=params)
    first, second = Talker(server), Talker(server)
    assert first.hello.payload["observation_spec"].keys() == {"agentview", "wrist", "state", "language"}
    for talker in (first, second):
        talker.start(name="a", suite="b", seed=1)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(asked, (first, second), (10, 20)))
    assert answers == [[10, 20, 28, 2, 0, 2.5, -1], [20, 40, 28, 2, 0, 2.5, -1]]
    # The chunk of two is carried out, then it is asked again: at its step 1, for it counts looks.
    assert asked(first, 0) == answers[0]
    assert asked(first, 30)[:5] == [30, 60, 28, 2, 1]
    second.start(name="a")
    failed = second.observe(**seen(1, task_description="fail"))
    assert failed.type == wire.ERROR and "vla_eval_model.py failed" not in failed.payload["error"]
    assert "model.py failed" in failed.payload["error"] and "the teller is ill" in failed.payload["error"]
    assert asked(second, 5)[:3] == [5, 10, 28]
    for talker in (first, second):
        talker.close()


def test_the_script_ends_with_its_server(serving: Start) -> None:
    server = serving(target=TARGET, params={**SHOWN, "script": str(SCRIPT)})
    assert server.pid is not None
    (uv,) = children(server.pid)
    (script,) = children(uv)
    server.kill()
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{script}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{script}").exists()


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_one_that_does_not_start_ends_the_run_in_one_line(vlaeval: Command, tmp_path: Path) -> None:
    done = vlaeval(*run(tmp_path, fault="start"), "server.wait_timeout=5", timeout=300)
    assert done.returncode != 0
    assert "vla_eval_model.py ended with status 1 at its start" in done.stdout + done.stderr


def test_one_that_dies_is_started_again_and_no_episode_is_lost(vlaeval: Command, tmp_path: Path) -> None:
    done = vlaeval(*run(tmp_path, fault="die"), timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(merged(tmp_path, "a"))
    assert len(found) == 6 and all(failure is None for _, _, failure in found.values()), found
    assert len(list((tmp_path / "marks").iterdir())) == 2


def run(folder: Path, fault: str) -> list[str]:
    (folder / "marks").mkdir()
    return [
        *(*TOY[:2], "benchmark=toy", "model=vla_eval", "model.environment.kind=host", "run=a"),
        *(f"model.params.script={SCRIPT}", "model.params.dim=2", "model.params.cameras=[front]"),
        *("model.params.state_dim=3", f"+model.params.args.fault={fault}", "+model.params.args.dim=2"),
        f"+model.params.args.marks={folder / 'marks'}",
    ]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, r"config, \.script: neither names"),
        ({"script": "src/none.py"}, r"model\.params\.script=src/none.py: no such file"),
        ({"config": "none.yaml"}, r"model\.params\.config=none.yaml: .*No such file"),
        ({"script": str(SCRIPT), "gripper": "shut"}, r"model\.params\.gripper"),
    ],
)
def test_wrong_files_are_told(params: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        VlaEval(checkpoint=None, **SHOWN, **params)


def test_its_files_are_those_that_say_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"script: {SCRIPT}\n")
    policy = VlaEval(checkpoint=None, **SHOWN, config=str(tmp_path / "one.yaml"))
    assert policy.files() == [tmp_path / "one.yaml", SCRIPT]
    (tmp_path / "one.yaml").write_text("- 1\n")
    with pytest.raises(ConfigurationError, match="no map"):
        VlaEval(checkpoint=None, **SHOWN, config=str(tmp_path / "one.yaml"))


def test_nobody_listens_on_a_free_port() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        policy = VlaEval(checkpoint=None, **SHOWN, script=str(SCRIPT))
        policy._port = bound.getsockname()[1]
        assert not policy._healthy()
