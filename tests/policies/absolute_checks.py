"""What test_xvla.py asks of LIBERO's own Python: where the hand is after a reset, and where it gets to when it is told
a place 5 cm above in absolute terms; and once more. One JSON value on the last line."""

from __future__ import annotations

import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.policies.act import ee6d_actions
from vlaeval_hpc.policies.xvla import _ee6d

benchmark = LIBERO(seed=7, suite="libero_object", control="absolute")
benchmark.select(["state"])
found = []
for _ in range(2):
    benchmark.reset(benchmark.tasks()[0], 0)
    begin = np.array(benchmark.observe()["states"], np.float64)
    arm = np.r_[_ee6d(begin, -np.pi / 2), np.zeros(11)]
    arm[2] += 0.05
    (action,) = ee6d_actions(arm[None])
    for _ in range(30):
        benchmark.step(action)
    end = benchmark.observe()["states"]
    found.append({"begin": begin.tolist(), "end": end.tolist()})
print(json.dumps(found))
