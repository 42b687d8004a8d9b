"""Real-time chunking: its policies as its own Flax saves them, its guidance, and Kinetix with a policy that is late."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command, with_packages
from tests.toys import merged
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.cache import cache_folder
from vlaeval_hpc.launch.environment import interpreter
from vlaeval_hpc.policies.mixer import FlowMixer, prefix_weights
from vlaeval_hpc.policies.pickles import read_arrays
from vlaeval_hpc.policies.rtc import RTC

HERE = Path(__file__).parent


def told(python: Path, script: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(python), str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny policies, saved by the versions that real-time chunking's lock file names."""
    packages = ("flax==0.10.2", "jax==0.4.35", "jaxlib==0.4.34", "numpy==1.26.4")
    python = interpreter(with_packages(EnvironmentConfig(), *packages), "flax", print)
    folder = tmp_path_factory.mktemp("run") / "31" / "policies"
    folder.mkdir(parents=True)
    assert told(python, "rtc_format.py", str(folder)) == "0.4.35"
    return folder


@pytest.fixture(scope="module")
def found(policies: Path) -> Any:
    packages = ("jax==0.9.0", "jaxlib==0.9.0", "numpy==2.4.6")
    python = interpreter(with_packages(EnvironmentConfig(), *packages), "rtc", print)
    return json.loads(told(python, "rtc_checks.py", str(policies)))


def test_published_policies_are_read(found: Any) -> None:
    assert found["sizes"] == [679, 6, 8]
    assert found["as Flax, grasp_easy"] < 1e-4 and found["as Flax, h4_cartpole"] < 1e-4


def test_guidance_is_the_gradient(found: Any) -> None:
    ours, by_differences = found["gradient"]
    assert ours == pytest.approx(by_differences, rel=0.02)


def test_chunks_go_on_where_the_last_one_was(found: Any) -> None:
    rtc, naive, hard = (np.array(found[key]) for key in ("rtc", "naive", "hard"))
    assert (rtc[:2] < 0.1 * naive[:2]).all(), "held fast: they are carried out before the chunk is there"
    assert (rtc[2:] < naive[2:]).all() and (np.diff(rtc[1:]) > 0).all(), "the less the later"
    assert (hard[:2] < 0.1 * naive[:2]).all() and (hard[2:] > rtc[2:]).all()
    assert found["again"]


def test_answers_do_not_depend_on_the_batch(found: Any) -> None:
    assert found["batches"] and found["shape"] == [[8, 6], "float32"]
    assert found["no policy"] == "no policy for level 'trampoline': there are grasp_easy, h4_cartpole"


def test_how_much_the_last_chunk_counts() -> None:
    assert prefix_weights(2, 6, 10, "linear") == pytest.approx([1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0])
    exp = prefix_weights(2, 6, 10, "exp")
    assert exp[2] == pytest.approx(0.8 * np.expm1(0.8) / np.expm1(1)) and exp[0] == 1 and not exp[6:].any()
    assert prefix_weights(2, 6, 8, "zeros").tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert prefix_weights(2, 6, 8, "ones").tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert prefix_weights(6, 4, 8, "exp").tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch pwned",))


def test_nothing_in_a_policy_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", {"in_proj": Evil()}), ("b", {"x": np.array([Evil()], dtype=object)})):
        (tmp_path / name).write_bytes(pickle.dumps(value))
        with pytest.raises(ConfigurationError, match=r"no pickled arrays: .*asks for (posix|nt)\.system"):
            read_arrays(tmp_path / name)
    assert not (tmp_path / "pwned").exists()
    (tmp_path / "c").write_bytes(b"no pickle")
    with pytest.raises(ConfigurationError, match="no pickled arrays"):
        read_arrays(tmp_path / "c")
    (tmp_path / "d").write_bytes(pickle.dumps({"in_proj": {"kernel": np.zeros(3)}}, protocol=4))
    with pytest.raises(ConfigurationError, match="no flow policy for Kinetix"):
        FlowMixer.load(tmp_path / "d")


def test_what_a_checkpoint_is(tmp_path: Path, policies: Path) -> None:
    assert [p.name for p in RTC(checkpoint=str(policies.parent.parent)).files()] == [
        "worlds_l_grasp_easy.pkl",
        "worlds_l_h4_cartpole.pkl",
    ]
    (policies.parent.parent / "4" / "policies").mkdir(parents=True, exist_ok=True)
    assert len(RTC(checkpoint=str(policies.parent.parent)).files()) == 2, "the last epoch's"
    for wrong in (None, str(tmp_path)):
        with pytest.raises(ConfigurationError, match="valid: a folder with a policy for each level"):
            RTC(checkpoint=wrong)
    with pytest.raises(ConfigurationError, match=r"model.params.method 'bid'.*valid: naive, rtc"):
        RTC(checkpoint=str(policies), method="bid")


def test_kinetix_does_not_wait(vlaeval: Command, tmp_path: Path, policies: Path) -> None:
    """A latency of two control steps, and one of the wall's clock: late actions and the control rate are told."""
    common = (
        "model=rtc",
        f"model.checkpoint={policies}",
        "benchmark=kinetix",
        "benchmark.tasks=[h4_cartpole]",
        "benchmark.episodes_per_task=1",
        "benchmark.max_steps=40",
        "cluster.shards=1",
        "mode=realtime",
    )
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache_folder() / "compiled" / "tests-jax")}
    done = vlaeval(*common, "run=set", "mode.latency=2", "mode.execute_horizon=4", timeout=400, **compiled)
    assert done.returncode == 0, done.stdout + done.stderr
    result = merged(tmp_path, "set")
    (episode,) = result["tasks"][0]["episodes"]
    assert result["mode"] == "realtime" and episode["rt_metrics"]["stale_count"] == 2
    assert result["mean_effective_control_hz"] == pytest.approx(30 * (1 - 2 / episode["steps"]), abs=1e-3)
    assert episode["rt_metrics"]["inference_count"] > 1 and episode["rt_metrics"]["delay_max"] == 2
    done = vlaeval(*common, "run=wall", "model.params.latency=0.2", timeout=400, **compiled)
    assert done.returncode == 0, done.stdout + done.stderr
    (episode,) = merged(tmp_path, "wall")["tasks"][0]["episodes"]
    late = episode["rt_metrics"]
    assert late["stale_count"] >= 1 and late["delay_max"] >= 1 and 0 < late["effective_control_hz"] < 30
