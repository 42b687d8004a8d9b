"""The policy bc: what it looks at, that a batch changes nothing, and which files it takes."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlaeval_hpc.benchmarks.metaworld import INSTRUCTIONS, SUITES, MetaWorld
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.bc import BC, Network, shipped, words
from vlaeval_hpc.wire.specs import misfits

STEPS = [0, 30, 100, 300, 1000, 3000, 10000]
TOLD = [INSTRUCTIONS[name] for name in SUITES["bc5"]]


@pytest.fixture(scope="module")
def policy() -> BC:
    made = BC(checkpoint=3000)
    made.load()
    return made


def ask(policy: BC, *observations: dict[str, Any]) -> list[bytes]:
    answers = policy.predict(list(observations), [Session(id=str(i)) for i in range(len(observations))])
    for answer in answers:
        assert answer.shape == (1, 4) and answer.dtype == np.float32
        assert np.isfinite(answer).all() and np.abs(answer).max() <= 1
    return [answer.tobytes() for answer in answers]


def observation(seed: int, told: str) -> dict[str, Any]:
    network = Network.load(shipped()[0])
    states = network.mean + network.std * np.random.default_rng(seed).normal(size=39)
    states.setflags(write=False)
    return {"states": states, "task_description": told}


observations = st.builds(observation, st.integers(0, 10**6), st.sampled_from(TOLD))


def test_fits_the_benchmark(policy: BC) -> None:
    theirs = MetaWorld
    assert misfits(policy.action_spec, theirs.action_spec, policy.observation_spec, theirs.observation_spec) == []


@given(st.lists(observations, min_size=1, max_size=16), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_answer_does_not_depend_on_the_batch(policy: BC, batch: list[dict[str, Any]], random: Any) -> None:
    alone = [ask(policy, seen)[0] for seen in batch]
    assert ask(policy, *batch) == alone
    order = random.sample(range(len(batch)), len(batch))
    assert ask(policy, *(batch[i] for i in order)) == [alone[i] for i in order]


def test_the_instruction_matters(policy: BC) -> None:
    network = policy.network
    bags = {told: network.features(np.zeros(39), told)[39:].tobytes() for told in TOLD}
    assert len(set(bags.values())) == 5
    assert len({ask(policy, observation(1, told))[0] for told in TOLD}) == 5


@given(st.sampled_from(TOLD), st.text(alphabet="0123456789 .,!-_", max_size=20))
def test_case_punctuation_and_unknown_words_do_not(told: str, noise: str) -> None:
    network = Network.load(shipped()[0])
    plain = network.features(np.zeros(39), told)
    assert (network.features(np.zeros(39), f"{noise} {told.upper()} {noise} zanzibar") == plain).all()
    assert not network.features(np.zeros(39), "").any() or (network.mean != 0).any()


def test_outliers_do_not_drown_the_rest(policy: BC) -> None:
    assert ask(policy, {"states": np.full(39, 1e30), "task_description": TOLD[0]})


def test_features_of_many_rows_are_those_of_each() -> None:
    network = Network.load(shipped()[3000])
    states = np.random.default_rng(0).normal(size=(7, 39))
    rows = network.features(states, TOLD[1])
    assert rows.dtype == np.float32 and rows.shape == (7, 39 + len(network.vocabulary))
    assert all((network.features(one, TOLD[1]) == row).all() for one, row in zip(states, rows, strict=True))
    np.testing.assert_allclose(
        network.forward(rows)[-1], [network.forward(row)[-1] for row in rows], rtol=1e-5, atol=1e-6
    )


def test_checkpoints_in_the_package() -> None:
    assert sorted(shipped()) == STEPS
    vocabulary = tuple(sorted(set().union(*map(words, TOLD))))
    for step, path in shipped().items():
        for checkpoint in (step, str(step), str(path)):
            policy = BC(checkpoint=checkpoint)
            assert policy.files() == [path]
        assert Network.load(path).vocabulary == vocabulary
        assert path.stat().st_size < 200_000


@pytest.mark.parametrize("checkpoint", [None, "", 20000, "20000", "no/such.npz", "."])
def test_a_missing_checkpoint_is_named_with_what_is_valid(checkpoint: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        BC(checkpoint=checkpoint)
    assert f"'{checkpoint or ''}'" in str(error.value)
    assert str(error.value).endswith(": 0, 30, 100, 300, 1000, 3000, 10000")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    network = Network.load(shipped()[300])
    network.save(tmp_path / "again.npz")
    # Not byte by byte: what stands around the numbers depends on the version of Python that wrote them.
    with np.load(tmp_path / "again.npz") as again, np.load(shipped()[300]) as before:
        assert again.files == before.files
        for name in before.files:
            assert again[name].dtype == before[name].dtype and (again[name] == before[name]).all()


def refused(path: Path) -> str:
    policy = BC(checkpoint=str(path))
    with pytest.raises(ConfigurationError) as error:
        policy.load()
    assert str(path) in str(error.value) and "is not a checkpoint of bc" in str(error.value)
    return str(error.value)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = shipped()[0].read_bytes()
    path = tmp_path_factory.mktemp("torn") / "torn.npz"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(path)


class Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    arrays: dict[str, Any] = dict(np.load(shipped()[0]))
    for name in ("vocabulary", "mean", "w1"):
        trapped = tmp_path / f"{name}.npz"
        np.savez(trapped, **{**arrays, name: np.array([Trap(sprung)], dtype=object)})
        refused(trapped)
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Trap(sprung)))
    refused(bare)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("mean", np.zeros(38, np.float16), r"(38,)"),
        ("std", np.zeros(39, np.float32), "float32"),
        ("w0", np.full((39 + 14, 256), np.nan, np.float16), "w0"),
        ("vocabulary", np.array(["one"]), "w0"),
        ("b2", None, "b2"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, name: str, value: Any, says: str) -> None:
    arrays: dict[str, Any] = {**np.load(shipped()[0]), name: value}
    path = tmp_path / "wrong.npz"
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    assert says in refused(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, array, archive = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz"))
    text.write_text("weights")
    with array.open("wb") as file:
        np.save(file, np.zeros(3))
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("vocabulary", "a b")
    for path in (text, array, archive):
        refused(path)
