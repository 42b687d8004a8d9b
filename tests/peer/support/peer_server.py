"""A policy server of vla-eval's that answers what our double Pilot answers. `peer_server.py PORT '{...}'`.

chunk: actions that the policy gives · chunk_size: vla-eval's own, null leaves chunks whole · specs: same, raw, none,
dims or format (wrong ones) · batch: vla-eval's max_batch_size · fail: the task whose episodes do not start.
"""

import json
import sys

import numpy as np
from doubles.pilot import Pilot
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import serve
from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW, DimSpec

from vlaeval_hpc.policies.base import Session

PUSH = DimSpec("push", 2, "toy_push", (-1, 1))
STATE = DimSpec("state", 3, "toy_state")
SPECS = {
    "same": ({"push": PUSH}, {"state": STATE}),
    # As vla-eval's own servers for pi0 or LeRobot do: one vector, and cameras by no benchmark's name.
    "raw": ({"actions": RAW}, {"image": IMAGE_RGB, "state": RAW, "language": LANGUAGE}),
    "dims": ({"push": DimSpec("push", 3, "toy_push")}, {}),
    "format": ({"push": DimSpec("push", 2, "toy_pull")}, {"state": STATE}),
}


class PilotServer(PredictModelServer):
    def __init__(self, chunk=1, chunk_size=None, specs="same", batch=1, fail=None):
        super().__init__(chunk_size=chunk_size, max_batch_size=batch)
        self._pilot = Pilot(checkpoint=None, chunk=chunk)
        self._a_look = 1 if chunk_size else chunk  # steps an observation stands for
        self._specs = specs
        self._fail = fail
        self._tasks = {}

    async def on_episode_start(self, config, ctx):
        await super().on_episode_start(config, ctx)
        self._tasks[ctx.session_id] = config["task"]
        if config["task"]["name"] == self._fail:
            raise RuntimeError("no such task")

    def predict_batch(self, obs_batch, ctx_batch):
        sessions = []
        for ctx in ctx_batch:
            task = self._tasks[ctx.session_id]
            sessions.append(Session(ctx.session_id, task, task["seed"], ctx.step * self._a_look))
        if self._specs == "raw":
            assert all(obs["images"]["front"].dtype == np.uint8 for obs in obs_batch)
        return [{"actions": a} for a in self._pilot.predict(obs_batch, sessions)]

    def get_action_spec(self):
        return self._declared(0)

    def get_observation_spec(self):
        return self._declared(1)

    def get_observation_params(self):
        return {"send_state": True}

    def _declared(self, which):
        if self._specs == "none":
            raise NotImplementedError
        return SPECS[self._specs][which]


serve(PilotServer(**json.loads(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]))
