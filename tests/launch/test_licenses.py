"""Licences of a benchmark's data: agreed to once, by a person, before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toys import TOY
from vlaeval_hpc.cli import main
from vlaeval_hpc.config.schema import BenchmarkConfig, Config
from vlaeval_hpc.config.vla_eval import TARGET, with_vla_eval
from vlaeval_hpc.launch.licenses import ACCEPTED, with_licenses


def test_a_licence_is_agreed_to_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLAEVAL_HPC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    words = [*TOY, "--dry-run", "+benchmark.licenses={toy-tos: 'https://example.org/tos'}"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        "error: benchmark=toy needs you to agree to a licence, 'toy-tos': read https://example.org/tos"
    )
    assert told.count("\n") == 1 and not (tmp_path / "results").exists()
    assert main([*words, "accept_license=true"]) == 0
    kept = json.loads((tmp_path / "cache" / "licenses.json").read_text())
    assert kept["toy-tos"]["where"] == "https://example.org/tos" and kept["toy-tos"]["accepted_at"]
    assert main(words) == 0

    another = BenchmarkConfig(name="toy", target="x:X", licenses={"toy-tos": "", "more": "https://example.org/more"})
    with pytest.raises(Exception, match="'more': read https://example.org/more"):
        with_licenses(Config(benchmark=another))
    told_too = with_licenses(Config(benchmark=another, accept_license=True)).benchmark.environment.variables
    assert told_too == {ACCEPTED: "more,toy-tos"}
    assert (
        with_licenses(Config(benchmark=BenchmarkConfig(name="toy", target="x:X"))).benchmark.environment.variables == {}
    )


def test_vla_evals_behavior_asks_for_its_licence() -> None:
    params = {"benchmark": "vla_eval.benchmarks.behavior1k.benchmark:Behavior1KBenchmark"}
    found = with_vla_eval(BenchmarkConfig(name="vla_eval", target=TARGET, params=params))
    assert found.licenses == {"behavior-dataset-tos": "https://behavior.stanford.edu/dataset"}
