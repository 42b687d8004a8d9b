"""What a sweep's overrides say: globs, ranges, lists, and the order of training."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.config.sweep import Axis, axes, in_order, short_names, training_steps
from vlaeval_hpc.errors import ConfigurationError


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["step-000030.npz", "step-010000.npz"], [30, 10000]),
        (["runs/x2/checkpoint-80k", "runs/x2/checkpoint-100k", "runs/x2/last"], [80_000, 100_000, None]),
        (["epoch=3-step=12000.ckpt", "epoch=4-step=9.ckpt"], [12000, 9]),
        (["s1/010000/pretrained_model", "s1/020000/pretrained_model"], [10000, 20000]),
        (["3000", "300"], [3000, 300]),
        (["openvla-7b", "octo-1.5"], [None, None]),
        (["org/a@main"], [None]),
        (["only-700.pt"], [700]),
        (["v2-step-5", "v3"], [5, None]),
        (["1m", "900k"], [1_000_000, 900_000]),
        ([], []),
    ],
)
def test_training_steps(names: list[str], steps: list[int | None]) -> None:
    assert training_steps(names) == steps


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=8, unique=True))
def test_steps_in_order_whatever_the_order_of_names(steps: list[int]) -> None:
    names = [f"run/checkpoint-{step}/weights" for step in steps]
    assert training_steps(in_order(names)) == sorted(steps)


def test_short_names() -> None:
    long = ["runs/x/010/pretrained_model", "runs/x/020/pretrained_model", "runs/x/b/030/pretrained_model"]
    assert short_names(long) == ["010", "020", "b/030"]
    assert short_names(["runs/x/step-1"]) == ["step-1"]
    assert short_names(["3", "30"]) == ["3", "30"]


def points(*words: str) -> list[object]:
    found: list[Config] = []
    for_each(["model=bc", *words, "-m"], lambda config, *_: found.append(config))
    return [config.model.checkpoint for config in found]


def test_a_glob_of_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that Hydra's grammar would take for something else come through as they are."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run=1, (a)"
    folder.mkdir()
    for name in ("step=100,x.npz", "step=9,x.npz", "it's step=20.npz", "last.npz"):
        (folder / name).touch()
    (tmp_path / "ck").symlink_to(folder)
    names = ["ck/step=9,x.npz", "ck/it's step=20.npz", "ck/step=100,x.npz", "ck/last.npz"]
    assert points("model.checkpoint=glob(ck/*)") == names
    assert points("model.checkpoint=glob(ck/*,exclude=last*)") == names[:-1]
    assert points("model.checkpoint=glob(['ck/l*','ck/*9*'])") == [names[0], names[3]]
    with pytest.raises(ConfigurationError, match=r"glob\(no/\*\): nothing there matches, in "):
        points("model.checkpoint=glob(no/*)")
    assert not (tmp_path / "multirun").exists() and not (tmp_path / "results").exists()


def test_lists_and_ranges_are_ordered_by_step() -> None:
    assert points("model.checkpoint=3000,30,10000,300") == [30, 300, 3000, 10000]
    assert points("model.checkpoint=range(1000,4000,1000)") == [1000, 2000, 3000]
    assert points("model.checkpoint=choice(b,a)") == ["b", "a"]  # no steps: as they are typed
    assert points("model.chunk_size=2,1") == [3000, 3000]


def test_the_same_sweep_typed_again_is_the_same() -> None:
    assert axes(["model.checkpoint=b,a", "-m"]) == axes(["-m", "model.checkpoint=a,b", "benchmark.tasks=[x,y]"])
    assert axes(["model.checkpoint=glob(x/*)", "-m"]) == [Axis("model.checkpoint", "glob(x/*)")]
    assert axes(["model=bc,random", "-m"]) == [Axis("model", "bc,random")]
    assert axes(["model.checkpoint=3"]) == []
    with pytest.raises(ConfigurationError, match="a sweep needs -m"):
        axes(["model.checkpoint=glob(x/*)"])
