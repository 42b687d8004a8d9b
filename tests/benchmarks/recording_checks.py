"""What test_recorded_libero.py asks of a Python with LIBERO: recording_checks.py FOLDER; JSON on the last line."""

import hashlib
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.libero import LIBERO
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.worker.episode import run_episode
from vlaeval_hpc.worker.recording import Recorder

STEPS, CHUNK = 16, 8


class Listener:
    """In the client's place: keeps what it is shown, and answers with seeded chunks."""

    connected = False

    def __init__(self):
        self.shown = []

    def start(self, task):
        self._rng = np.random.default_rng(1)

    def act(self, seen):
        arrays = {**seen.get("images", {}), "state": seen["states"]}
        self.shown.append(
            {k: hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest()[:20] for k, v in arrays.items()}
        )
        return self._rng.uniform(-1, 1, (CHUNK, 7))


def play(looks, **recording):
    benchmark = LIBERO(seed=7, suite="libero_spatial")
    tasks = benchmark.tasks()
    run = RunDirectory(sys.argv[1])
    run.create()
    plan = Plan("r", "libero", 1, [], tasks, {}, {}, {}, recording=recording)
    recorder, client = Recorder(run, 0, plan), Listener()
    recorder.select(benchmark, looks)
    item = Item(tasks[0]["name"], 0, 7)
    record = run_episode(benchmark, tasks[0], item, client, STEPS, lambda phase: None, recorder)
    benchmark.close()
    return client.shown, record


plain, _ = play(["agentview", "state"])
filmed, record = play(["agentview", "state"], video=True, steps=True, cameras=["agentview", "wrist"])
print(json.dumps({"plain": plain, "filmed": filmed, "record": record}))
