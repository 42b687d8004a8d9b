"""Every model of conf/ composes, and every pair that conf/pairing knows fits; as `python -m vlaeval_hpc` checks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.policies.checkpoints import needs
from vlaeval_hpc.config.composition import checked, conf_folder
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.environment import KINDS
from vlaeval_hpc.launch.planning import check_fit, check_numbers
from vlaeval_hpc.run.target import build
from vlaeval_hpc.serving.__main__ import describe

MODELS = sorted(p.stem for p in (conf_folder() / "model").glob("*.yaml"))
BENCHMARKS = sorted(p.stem for p in (conf_folder() / "benchmark").glob("*.yaml"))
PAIRS = [(m, b) for m in MODELS for b in BENCHMARKS if (conf_folder() / "pairing" / f"{m}_{b}.yaml").exists()]


def composed(*overrides: str) -> Config:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return checked(compose("config", list(overrides)))


def fit(config: Config) -> None:
    """Raises ConfigurationError where policy and benchmark, made here, do not fit."""
    model = {k: getattr(config.model, k) for k in ("target", "checkpoint", "params", "action_ensemble", "ema_alpha")}
    benchmark: Any = build(
        "benchmark", config.benchmark.target, {"seed": config.benchmark.seed, **config.benchmark.params}
    )
    described = {
        key: {name: spec.to_dict() for name, spec in getattr(benchmark, key).items()}
        for key in ("action_spec", "observation_spec")
    }
    check_fit(described, describe(model), config)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_composes(model: str, tmp_path: Path) -> None:
    benchmark = next((b for m, b in PAIRS if m == model), "metaworld")
    config = composed(f"model={model}", f"benchmark={benchmark}", *needs(model, tmp_path))
    assert config.model.name == model
    assert config.model.environment.kind in KINDS
    check_numbers(config)
    if config.model.target is not None:
        fit(config)


@pytest.mark.parametrize(("model", "benchmark"), PAIRS, ids=str)
def test_every_pair_fits(model: str, benchmark: str, tmp_path: Path) -> None:
    fit(composed(f"model={model}", f"benchmark={benchmark}", *needs(model, tmp_path, benchmark)))


def test_a_server_that_waits_longer_than_a_shard_would_never_be_heard_to_fail(tmp_path: Path) -> None:
    for model in ("openpi", "act", "gr00t", "vla_eval"):
        config = composed(f"model={model}", "benchmark=libero", *needs(model, tmp_path))
        assert config.model.params["timeout"] < config.server.answer_timeout


@pytest.mark.parametrize("dialect", ["openvla", "oft"])
def test_both_dialects_of_act_fit_libero(dialect: str, tmp_path: Path) -> None:
    fit(composed("model=act", "benchmark=libero", f"model.params.dialect={dialect}", *needs("act", tmp_path)))


def test_what_cannot_go_together_is_refused(tmp_path: Path) -> None:
    for wrong in ("model.params.dialect=xvla", "model.params.dim=8", "model.params.cameras=[front]"):
        with pytest.raises(ConfigurationError, match="does not fit"):
            fit(composed("model=act", "benchmark=libero", *needs("act", tmp_path), wrong))


def test_every_file_of_pairing_is_of_a_model_and_a_benchmark() -> None:
    assert len(list((conf_folder() / "pairing").glob("*.yaml"))) == len(PAIRS)
