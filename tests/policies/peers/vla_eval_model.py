# /// script
# requires-python = ">=3.10"
# dependencies = ["vla-eval==0.8.0"]
# ///
"""A model server as vla-eval's repository has them: it tells in its actions what it was shown."""

import os
from pathlib import Path

import numpy as np
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import run_server


class Teller(PredictModelServer):
    """(2, dim): the images' means, the state's sum, the words' length, the step, `offset`, 0.9, as many as `dim`.

    `fault`: start; die, in the first process that leaves its mark in the folder `marks`.
    """

    def __init__(self, offset: float = 0.0, dim: int = 7, fault: str = "", marks: str = "", **kwargs) -> None:
        super().__init__(chunk_size=None, **kwargs)
        if fault == "start":
            raise RuntimeError("no such weights")
        self.offset = offset
        self.dim = dim
        self.mortal = fault == "die" and not list(Path(marks).iterdir())
        if marks:
            Path(marks, str(os.getpid())).touch()

    def predict(self, obs, ctx):
        if obs["task_description"] == "fail":
            raise RuntimeError("the teller is ill")
        if self.mortal and ctx.step == 2:
            os._exit(9)
        told = [*(image.mean() for image in obs["images"].values()), np.sum(obs["states"])]
        told += [len(obs["task_description"]), ctx.step, self.offset, 0.9]
        return {"actions": np.tile(np.array(told[-self.dim :], np.float32), (2, 1))}


if __name__ == "__main__":
    run_server(Teller)
