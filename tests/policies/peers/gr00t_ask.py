"""Our client of GR00T's servers, where pyzmq is: `gr00t_ask.py PARAMS INSTRUCTION...`; a JSON line for each."""

import json
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))

from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.gr00t import Gr00t

policy = Gr00t(checkpoint=None, **json.loads(sys.argv[1]))
for told in sys.argv[2:]:
    seen = {
        "images": {"agentview": np.full((256, 256, 3), 10, np.uint8), "wrist": np.full((256, 256, 3), 20, np.uint8)},
        "states": np.arange(8, dtype=np.float64),
        "task_description": told,
    }
    begin = time.monotonic()
    try:
        if told == "load":
            policy.load()
            found = None
        else:
            (chunk,) = policy.predict([seen], [Session("a")])
            found = [list(chunk.shape), chunk[0].tolist(), chunk[1].tolist()]
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    print(json.dumps([found, time.monotonic() - begin]), flush=True)
