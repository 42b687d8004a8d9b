"""`check` on every adapter that can be had, as a user runs it; and that it tells of each promise that is broken."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TESTS, Command
from tests.toys import TOY
from vlaeval_hpc.cli import main
from vlaeval_hpc.config.schema import BenchmarkConfig, Config, EnvironmentConfig, ModelConfig
from vlaeval_hpc.launch import conformance
from vlaeval_hpc.launch.finding import PROBLEM, Finding
from vlaeval_hpc.launch.runtime import Runtime
from vlaeval_hpc.serving.__main__ import make_policy
from vlaeval_hpc.serving.conformance import answer as answer_of_policy
from vlaeval_hpc.worker.__main__ import _description
from vlaeval_hpc.worker.conformance import answer as answer_of_benchmark

HERE = Runtime(EnvironmentConfig(), sys.executable)
BENCHMARK = [
    "spec",
    "determinism",
    "reset",
    "lazy frames",
    "without cameras",
    "frames",
    "speed",
    "memory",
]
POLICY = ["policy spec", "policy determinism", "sessions", "batching", "policy speed", "policy memory"]


@pytest.mark.parametrize(
    "words",
    [
        ("benchmark=metaworld", "benchmark.tasks=[push-v3,door-open-v3]", "model=bc"),
        ("benchmark=libero", "benchmark.max_tasks=1"),  # what another task leaves: test_libero.py
        ("benchmark=pusht", "model=random", "model.params.observe=[top,state]"),
        ("benchmark=aloha",),
        ("benchmark=robosuite", "benchmark.tasks=[Lift,Door]"),
        ("benchmark=kinetix", "benchmark.max_tasks=1"),
    ],
    ids=lambda words: words[0].partition("=")[2],
)
def test_adapters_keep_their_promises(vlaeval: Command, words: tuple[str, ...], tmp_path: Path) -> None:
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax")}  # by the first process, for the others
    done = vlaeval("check", "--json", "--steps", "9", *words, timeout=1200, **compiled)
    found = {f["name"]: f for f in json.loads(done.stdout.splitlines()[-1])}
    assert done.returncode == 0 and not [f for f in found.values() if f["state"] == PROBLEM], found
    with_policy = any(word.startswith("model=") for word in words)
    assert sorted(found) == sorted([*BENCHMARK, *(["fit", *POLICY] if with_policy else [])])


@pytest.mark.parametrize(
    "words", [("benchmark=simpler", "benchmark.tasks=[widowx_stack_cube]"), ("benchmark=calvin",)], ids=lambda w: w[0]
)
def test_adapters_keep_their_promises_on_doubles(vlaeval: Command, words: tuple[str, ...], tmp_path: Path) -> None:
    """Of simulators that are on no package index."""
    surfaces = TESTS / "benchmarks" / "surfaces"
    path = f"+benchmark.environment.variables.PYTHONPATH={surfaces}:{surfaces / 'calvin_models'}"
    if words[0] == "benchmark=calvin":
        (tmp_path / ".hydra").mkdir()
        (tmp_path / ".hydra" / "merged_config.yaml").touch()
        words = (*words, f"benchmark.params.dataset={tmp_path}", "benchmark.params.render=cpu")
    done = vlaeval("check", *words, "benchmark.environment.kind=host", path)
    assert done.returncode == 0 and "8 checks, all ok" in done.stdout, done.stdout + done.stderr


def test_a_table_for_people(vlaeval: Command) -> None:
    done = vlaeval("check", *TOY, "--steps", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    determinism           a fresh process: the same 8 steps" in done.stdout
    assert done.stdout.splitlines()[-1] == "15 checks, all ok"


def test_what_breaks_or_cannot_be_checked_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *TOY[:2], "benchmark=toy", "benchmark.params.faults={task-0/0: raise}"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  run " in out and "the toy broke" in out
    for wrong, said in (
        (("--steps", "no"), "error: --steps 'no': valid: 1 and more"),
        (("server.url=ws://h:1",), "error: check runs the policy itself"),
        (("-m", "model.checkpoint=1,2"), "error: check looks at one model"),
    ):
        assert main(["check", *TOY, *wrong]) == 2
        assert said in capsys.readouterr().err


class _Here:
    """Described, but for the process: each has a benchmark or policy of its own all the same."""

    def __init__(self, _: Any, __: str, kind: str, *___: Any) -> None:
        self._kind = kind

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def ask(self, question: dict[str, Any], _: Any = ()) -> dict[str, Any]:
        if self._kind == "benchmark":
            return answer_of_benchmark(question)
        return answer_of_policy(question, make_policy(question["model"]))


def findings(monkeypatch: pytest.MonkeyPatch, folder: Path, toy: str = "", pilot: str = "") -> dict[str, Finding]:
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setattr(conformance, "Described", _Here)
    section = {"target": "doubles.broken:BrokenToy", "params": {"promise": toy}, "seed": 3}
    monkeypatch.setattr(conformance, "describe_benchmark", lambda *_: _description({"benchmark": section}))
    benchmark = BenchmarkConfig(name="toy", **section)  # type: ignore[arg-type]
    model = ModelConfig(
        name="pilot", target="doubles.broken:BrokenPilot", params={"promise": pilot}, max_batch_size=None
    )
    config = Config(model=model, benchmark=benchmark)
    found: list[Finding] = []
    episodes = conformance.check_benchmark(config, HERE, 10, folder, found.append)
    conformance.check_policy(config, HERE, episodes, found.append)
    return {f.name: f for f in found}


@pytest.mark.parametrize(
    ("promise", "told"),
    [
        ("", {}),
        ("determinism", {"determinism", "reset", "lazy frames", "without cameras"}),
        ("reset", {"reset", "lazy frames"}),
        ("lazy", {"lazy frames"}),
        ("blind", {"without cameras"}),
        ("frames", {"frames"}),
        ("states", {"spec"}),
        ("names", {"spec"}),
        ("metrics", {"spec"}),
        ("end", {"spec"}),
        ("state", {"spec"}),
        ("hold", {"spec"}),
    ],
)
def test_a_broken_benchmark_is_told(
    promise: str, told: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = findings(monkeypatch, tmp_path, toy=promise)
    failed = {name for name, f in found.items() if f.state == PROBLEM}
    assert failed >= set(told) and (promise in ("end", "names") or failed - set(told) <= {"determinism"}), found


@pytest.mark.parametrize(
    ("promise", "told"),
    [
        ("determinism", "policy determinism"),
        ("sessions", "sessions"),
        ("batching", "batching"),
        ("shape", "policy spec"),
    ],
)
def test_a_broken_policy_is_told(promise: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = findings(monkeypatch, tmp_path, pilot=promise)
    assert found[told].state == PROBLEM, found
