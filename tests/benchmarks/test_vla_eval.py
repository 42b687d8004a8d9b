"""vla-eval's classes behind our worker: LIBERO's episodes are those of our own adapter, and its YAMLs import.

What needs vla-eval runs in an environment with LIBERO and vla-eval 0.8.0, by vla_eval_checks.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.checks import OSMESA, Answer, checks
from tests.conftest import Command
from tests.toys import merged, outcomes
from vlaeval_hpc.config.schema import BenchmarkConfig, EnvironmentConfig, ModeConfig
from vlaeval_hpc.config.vla_eval import TARGET, mode_of_vla_eval, with_vla_eval
from vlaeval_hpc.errors import ConfigurationError

CHECKS = Path(__file__).with_name("vla_eval_checks.py")
EPISODES = [("libero_spatial", 4, 0), ("libero_goal", 2, 3)]
STEPS, CHUNK = 4, 2


@pytest.fixture(scope="module")
def answers(libero_vla_eval_python: Path) -> Iterator[dict[str, Answer]]:
    """Everything asked there; each waits for its answer."""
    asked = json.dumps(EPISODES), STEPS, CHUNK
    with checks(CHECKS, OSMESA) as ask:
        yield {
            "theirs": ask(libero_vla_eval_python, "theirs", *asked),
            "ours": ask(libero_vla_eval_python, "ours", *asked),
            "rules": ask(libero_vla_eval_python, "rules"),
        }


def test_libero_behind_our_worker_is_libero(answers: dict[str, Answer]) -> None:
    theirs, ours = answers["theirs"](), answers["ours"]()
    assert theirs["about"] == {"max_steps": 300, "max_episodes": 50, "tasks": 20}
    assert len(theirs["episodes"]) == len(ours) == 2
    for their, our in zip(theirs["episodes"], ours, strict=True):
        assert len(their["looks"]) == 1 + STEPS // CHUNK
        assert their["looks"] == our["looks"]
        assert their["physics"] == our["physics"]
        assert their["success"] == our["success"]
        # X-VLA's servers read the controller's pose: what is not in a spec goes along.
        assert their["more"] == ["controller_states", "images", "states", "task_description"]
    assert [e["name"].partition("/")[0] for e in theirs["episodes"]] == ["libero_spatial", "libero_goal"]


def test_tasks_metrics_and_specs_are_the_class_s(answers: dict[str, Answer]) -> None:
    found = answers["rules"]()
    assert found["tasks"] == [
        {"name": "near", "level": 0},
        {"name": "far", "level": 1},
        {"name": "near [2]", "level": 2},
    ]
    assert found["metrics"] == {"success": "mean", "distance": "max"}
    assert found["specs"] == [["push"], ["front", "language", "hand", "state"]]
    assert found["own seed"] == [7, 3]


def test_an_episode_does_not_depend_on_what_ran_before(answers: dict[str, Answer]) -> None:
    found = answers["rules"]()
    assert found["alone"] == found["after others"]
    assert len({tuple(found[key]) for key in ("alone", "other episode", "other seed")}) == 3
    assert found["alone"][1] == 1 and found["reused"] == [1, 2, 3]


def test_a_new_instruction_of_calvin_s_is_passed_on(answers: dict[str, Answer]) -> None:
    assert answers["rules"]()["restarted"] == [False, True]


def test_variants_have_their_own_step_limits(answers: dict[str, Answer]) -> None:
    found = answers["rules"]()
    kinds = ("near", "far", "near [2]")
    assert found["variants"] == [f"{variant}/{kind}" for variant in ("short", "long") for kind in kinds]
    most, short, long = found["limits"]
    assert most == 4
    assert short == [False, True, True, True, True]
    assert long == [False, False, False, True, True]
    assert found["won"] == [True, True]
    assert found["result"]["success"] and sorted(found["result"]) == ["distance", "success"]
    assert 9 < found["result"]["distance"] < 18  # nothing is done after the end


def test_only_what_is_looked_at_is_asked_for(answers: dict[str, Answer]) -> None:
    # images, keys, looks before and after one, and whether the class was made with its wrist camera and state.
    assert answers["rules"]()["seen"] == {
        "front": [["front"], ["images", "more"], 0, 1, False, False],
        "hand+language": [["hand"], ["images", "more", "task_description"], 0, 1, True, False],
        "": [[], ["more"], 0, 1, False, False],
    }


def test_a_licence_that_was_agreed_to_is_not_asked_for(answers: dict[str, Answer]) -> None:
    agreed, asked = answers["rules"]()["licences"]
    assert agreed == ""
    assert asked.startswith("ConfigurationError: Drift gave up (1)") and asked.endswith("accept_license=true")


def test_what_is_wrong_is_named(answers: dict[str, Answer]) -> None:
    none, unknown, wrong, render, camera, missing = answers["rules"]()["refused"]
    assert "benchmark.params.benchmark: none is named" in none
    assert "'vla_eval.benchmarks.moon:Moon' cannot be imported by" in unknown and "vla-eval==0.8.0" in unknown
    assert "unexpected keyword argument 'colour'" in wrong
    assert render.endswith("benchmark.params.render=cpu: valid for vla_eval_checks:Drift: gpu")
    assert camera.endswith("gives no 'sideview': valid: front, language, hand, state")
    assert "CALVINBenchmark cannot list its tasks for" in missing and "pytorch_lightning" in missing
    for line in (none, unknown, wrong, render, camera, missing):
        assert line.startswith("ConfigurationError") and "\n" not in line


def benchmark(config: Path, **params: Any) -> BenchmarkConfig:
    return BenchmarkConfig(name="vla_eval", target=TARGET, seed=7, params={"config": str(config), **params})


@pytest.fixture
def yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files as vla-eval's repository has them."""
    monkeypatch.setenv("DATA", "/scratch/data")
    (tmp_path / "base.yaml").write_text(
        "server: {url: 'ws://localhost:8000'}\n"
        "docker:\n"
        "  image: ghcr.io/allenai/vla-evaluation-harness/libero-pro:0.8.0\n"
        "  env: ['NVIDIA_DRIVER_CAPABILITIES=all', DATA]\n"
        "  volumes: ['${oc.env:DATA}:/data:ro', '${oc.env:NOWHERE,/tmp}:/more']\n"
        "output_dir: ./results\n"
        "benchmarks:\n"
        "  - benchmark: a.b:C\n"
        "    subname: one\n"
        "    episodes_per_task: 50\n"
        "    action_dim: 7\n"
        "    params: {suite: one, seed: 3}\n"
        "  - {benchmark: 'a.b:C', subname: two, episodes_per_task: 50, params: {suite: two}}\n"
    )
    child = tmp_path / "sub" / "child.yaml"
    child.parent.mkdir()
    child.write_text(
        "extends: ../base.yaml\n"
        "render: cpu\n"
        "benchmarks:\n"
        "  - benchmark: a.b:C\n"
        "    max_steps: 9\n"
        "    tasks: [t]\n"
        "    max_tasks: 1\n"
        "    params: {suite: three, seed: 5}\n"
    )
    return child


def test_a_yaml_of_one_evaluation(yaml: Path) -> None:
    found = with_vla_eval(benchmark(yaml, reuse=True, more=1, benchmark=None, entry=None, render=None))
    assert found.params == {"benchmark": "a.b:C", "render": "cpu", "suite": "three", "reuse": True, "more": 1}
    assert (found.seed, found.episodes_per_task, found.max_steps) == (5, None, 9)
    assert (found.tasks, found.max_tasks) == (["t"], 1)
    assert found.environment.image == "docker://ghcr.io/allenai/vla-evaluation-harness/libero-pro:0.8.0"
    assert found.environment.binds == ["/scratch/data:/data:ro", "/tmp:/more"]
    assert found.environment.variables == {"NVIDIA_DRIVER_CAPABILITIES": "all", "DATA": "/scratch/data"}
    assert found.environment.python is None  # of a container only
    assert with_vla_eval(found) == found


def test_what_is_said_here_goes_before_the_yaml(yaml: Path) -> None:
    said = benchmark(yaml, suite="four", seed=9, render="gpu")
    said.episodes_per_task, said.max_steps = 2, 3
    said.environment = EnvironmentConfig(kind="image", image="mine.sif", variables={"DATA": "x"}, binds=["/a"])
    found = with_vla_eval(said)
    assert found.params == {"benchmark": "a.b:C", "render": "gpu", "suite": "four"}
    assert (found.seed, found.episodes_per_task, found.max_steps) == (9, 2, 3)
    assert found.environment.image == "mine.sif" and found.environment.binds[-1] == "/a"
    assert found.environment.variables["DATA"] == "x"
    assert found.environment.python is None


def test_a_yaml_of_several_evaluations(yaml: Path) -> None:
    base = yaml.parents[1] / "base.yaml"
    both = with_vla_eval(benchmark(base))
    assert both.params == {
        "benchmark": "a.b:C",
        "variants": {"one": {"suite": "one", "seed": 3}, "two": {"suite": "two"}},
    }
    assert both.episodes_per_task == 50
    for entry in ("one", 0, "0"):
        one = with_vla_eval(benchmark(base, entry=entry))
        assert one.params == {"benchmark": "a.b:C", "suite": "one"} and one.seed == 3


@pytest.mark.parametrize(
    ("image", "python"),
    [
        ("libero-pro:0.8.0", "libero"),
        ("calvin@sha256:0", "calvin"),
        ("robodojo:latest", "RoboDojo"),
        ("mikasa-robo", "mikasa"),
    ],
)
def test_python_of_vla_eval_s_images(image: str, python: str) -> None:
    source = f"docker://ghcr.io/allenai/vla-evaluation-harness/{image}"
    chosen = BenchmarkConfig(name="v", target=TARGET, environment=EnvironmentConfig(kind="image", image=source))
    assert with_vla_eval(chosen).environment.python == f"/opt/conda/envs/{python}/bin/python"
    chosen.environment.python = "mine"
    assert with_vla_eval(chosen).environment.python == "mine"


def test_live_mode_is_real_time_mode(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text("benchmarks: [{benchmark: 'a:B', mode: live, hz: 20, paced: false, wait_first_action: true}]")
    found = mode_of_vla_eval(benchmark(path), ModeConfig())
    assert found == ModeConfig(name="realtime", hz=20.0, pace=None, wait_first_action=True)
    said = ModeConfig(name="realtime", hz=5.0, latency=2)
    assert mode_of_vla_eval(benchmark(path), said) == said
    path.write_text("benchmarks: [{benchmark: 'a:B'}]")
    assert mode_of_vla_eval(benchmark(path), ModeConfig()) == ModeConfig()


def test_yamls_that_do_not_fit_are_named(yaml: Path, tmp_path: Path) -> None:
    def refusal(text: str | None, **params: Any) -> str:
        path = tmp_path / "it.yaml"
        if text is None:
            path = tmp_path / "missing.yaml"
        else:
            path.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            with_vla_eval(benchmark(path, **params))
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(str(path), "FILE")

    one, two = "{benchmark: 'a:B', subname: x", "{benchmark: 'a:B', subname: y"
    assert "No such file" in refusal(None)
    assert "no `benchmarks` in it" in refusal("a: 1")
    assert "no `benchmarks` in it" in refusal("[1]")
    assert refusal("benchmarks: [").startswith("benchmark.params.config=FILE: while parsing")
    assert "extends itself" in refusal("extends: it.yaml")
    assert "'x' has mode turbo: valid: sync, live, realtime" in refusal(f"benchmarks: [{one}, mode: turbo}}]")
    differ = refusal(f"benchmarks: [{one}, episodes_per_task: 1}}, {two}, episodes_per_task: 2}}]")
    assert differ.endswith("differ in episodes_per_task: benchmark.params.entry chooses one: x, y")
    assert "differ in benchmark" in refusal(f"benchmarks: [{one}}}, {{benchmark: 'a:C'}}]")
    assert "evaluations of one name" in refusal(f"benchmarks: [{one}}}, {one}}}]")
    assert "unknown benchmark.params.entry 'z': valid: x, y" in refusal(f"benchmarks: [{one}}}, {two}}}]", entry="z")
    assert "Environment variable 'NOWHERE' not found" in refusal("benchmarks: [{benchmark: '${oc.env:NOWHERE}'}]")
    with pytest.raises(ConfigurationError, match=r"valid with benchmark\.params\.config=FILE"):
        with_vla_eval(BenchmarkConfig(name="v", target=TARGET, params={"entry": 1}))


def test_an_imported_yaml_runs(vlaeval: Command, tmp_path: Path) -> None:
    """The toy task of tests/peer, a class of vla-eval's, from YAML to merged result, on one shard and on three."""
    (tmp_path / "point.yaml").write_text(
        "benchmarks:\n"
        "  - {benchmark: 'peer_benchmark:PointBenchmark', subname: a, episodes_per_task: 3}\n"
        "  - {benchmark: 'peer_benchmark:PointBenchmark', subname: b, episodes_per_task: 3}\n"
    )
    support = CHECKS.parents[1] / "peer" / "support"
    words = (
        "run",
        "benchmark=vla_eval",
        "benchmark.params.config=point.yaml",
        f"+benchmark.environment.variables.PYTHONPATH={support}",
        "model=random",
        "model.params.dim=2",
        "model.params.observe=[front,state,language]",
    )
    found = []
    for shards in (1, 3):
        done = vlaeval(*words, f"run=with{shards}", f"cluster.shards={shards}", timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(outcomes(merged(tmp_path, f"with{shards}")))
    assert found[0] == found[1] and len(found[0]) == 12
    assert {task for task, _ in found[0]} == {f"{v}/point-{i}" for v in "ab" for i in (0, 1)}
    assert {(steps, failure) for _, steps, failure in found[0].values()} == {(15, None)}
