"""Every model of conf/ composes, and every pair that conf/pairing knows fits; as `python -m vlaeval_hpc` checks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlaeval_hpc.config.composition import checked, conf_folder
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.environment import KINDS
from vlaeval_hpc.launch.planning import check_fit, check_numbers
from vlaeval_hpc.run.target import build
from vlaeval_hpc.serving.__main__ import describe

MODELS = sorted(p.stem for p in (conf_folder() / "model").glob("*.yaml"))
PAIRS = sorted(p.stem.partition("_")[::2] for p in (conf_folder() / "pairing").glob("*.yaml"))
NEEDS = {"openpi": ["model.params.url=ws://h:1"], "act": ["model.params.url=http://h:1"], "replay": []}
NEEDS["gr00t"] = ["model.params.url=tcp://h:1"]


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
    recorded = tmp_path / "recorded.npz"
    np.savez(recorded, **{"a/0": np.zeros((1, 4))})
    needs = [*NEEDS.get(model, []), f"model.params.path={recorded}"] if model == "replay" else NEEDS.get(model, [])
    benchmark = next((b for m, b in PAIRS if m == model), "metaworld")
    config = composed(f"model={model}", f"benchmark={benchmark}", *needs)
    assert config.model.name == model
    assert config.model.environment.kind in KINDS
    check_numbers(config)
    if config.model.target is not None:
        fit(config)


@pytest.mark.parametrize(("model", "benchmark"), PAIRS, ids="-".join)
def test_every_pair_fits(model: str, benchmark: str) -> None:
    fit(composed(f"model={model}", f"benchmark={benchmark}", *NEEDS.get(model, [])))


def test_a_server_that_waits_longer_than_a_shard_would_never_be_heard_to_fail() -> None:
    for model in ("openpi", "act", "gr00t"):
        config = composed(f"model={model}", "benchmark=libero", *NEEDS[model])
        assert config.model.params["timeout"] < config.server.answer_timeout


@pytest.mark.parametrize("dialect", ["openvla", "oft"])
def test_both_dialects_of_act_fit_libero(dialect: str) -> None:
    fit(composed("model=act", "benchmark=libero", f"model.params.dialect={dialect}", *NEEDS["act"]))


def test_what_cannot_go_together_is_refused() -> None:
    for wrong in ("model.params.dialect=xvla", "model.params.dim=8", "model.params.cameras=[front]"):
        with pytest.raises(ConfigurationError, match="does not fit"):
            fit(composed("model=act", "benchmark=libero", *NEEDS["act"], wrong))
