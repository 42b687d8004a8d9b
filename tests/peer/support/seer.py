"""A policy of ours that steers by the picture alone, and fails where anything is not as the benchmark drew it."""

import numpy as np

from vlaeval_hpc.policies.base import Policy
from vlaeval_hpc.wire.specs import LANGUAGE, RGB, Spec

from .point import SIZE, Point, direction


class Seer(Policy):
    action_spec = {"push": Spec("push", 2, "point_push")}
    observation_spec = {"front": RGB, "wrist": RGB, "state": Spec("state", 3, "any"), "language": LANGUAGE}

    def __init__(self, *, checkpoint=None, chunk=1):
        super().__init__(checkpoint=checkpoint)
        self._chunk = chunk

    def predict(self, observations, sessions):
        return [self._one(o, s) for o, s in zip(observations, sessions, strict=True)]

    def _one(self, observation, session):
        image, state = observation["images"]["front"], observation["states"]
        drawn = Point(session.task["task_id"], session.task["episode_idx"])
        drawn.position, drawn.steps = state[:2], session.step
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
        assert np.array_equal(image, drawn.image())
        assert np.array_equal(observation["images"]["wrist"], image[::-1, ::-1])
        assert state[2] == session.step
        assert observation["task_description"] == session.task["name"]
        return np.tile(direction(image), (self._chunk, 1))
