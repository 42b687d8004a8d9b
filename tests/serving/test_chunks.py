"""Action chunks: carried out to their end, or blended."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.serving.chunks import ActionQueue, Actions


def chunk(*values: float) -> Actions:
    return np.array(values, float)[:, None]


def drain(queue: ActionQueue) -> list[float]:
    out = []
    while not queue.wants_look:
        out.append(float(queue.pop()[0]))
    return out


def test_newest_carries_a_chunk_out_to_its_end() -> None:
    queue = ActionQueue("newest")
    assert queue.wants_look
    queue.push(chunk(1, 2, 3))
    assert drain(queue) == [1, 2, 3]
    queue.push(chunk(4))
    assert drain(queue) == [4]


def test_take_gives_all_that_is_to_come() -> None:
    queue = ActionQueue("newest")
    queue.push(chunk(1, 2, 3))
    queue.pop()
    assert queue.take().tolist() == [[2], [3]]
    assert queue.wants_look


def test_a_new_episode_knows_nothing_of_the_last() -> None:
    for ensemble in ("newest", "average", "ema"):
        queue = ActionQueue(ensemble)
        queue.push(chunk(1, 2, 3))
        queue.clear()
        queue.push(chunk(7, 8))
        assert queue.pop()[0] == 7
        assert queue.take().tolist() == [[8]]


def test_ensembles_look_at_every_step() -> None:
    for ensemble in ("average", "ema"):
        queue = ActionQueue(ensemble)
        queue.push(chunk(1, 2, 3))
        assert queue.wants_look and queue.looks_always
    assert not ActionQueue("newest").looks_always


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.floats(0.1, 1), st.sampled_from(["average", "ema"]))
def test_ensembles_blend_what_all_chunks_say_of_a_step(lengths: list[int], alpha: float, ensemble: str) -> None:
    """Against the definition: what was said of a step, oldest first, averaged or decayed."""
    queue = ActionQueue(ensemble, alpha)
    said: dict[int, list[float]] = {}
    rng = np.random.default_rng(len(lengths))
    for step, length in enumerate(lengths):
        values = rng.uniform(-1, 1, length)
        for i, value in enumerate(values):
            said.setdefault(step + i, []).append(value)
        queue.push(values[:, None])
        if ensemble == "average":
            wanted = float(np.mean(said[step]))
        else:
            wanted = said[step][0]
            for value in said[step][1:]:
                wanted = alpha * value + (1 - alpha) * wanted
        assert queue.pop()[0] == pytest.approx(wanted)


def test_wrong_settings_are_told_with_the_valid_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean average\?.*valid: average, ema, newest"):
        ActionQueue("avarage")
    for alpha in (0, -1, 1.5, float("nan")):
        with pytest.raises(ConfigurationError, match=r"model\.ema_alpha"):
            ActionQueue("ema", alpha)
