"""What test_libero.py asks of a simulator's own Python: one JSON value on the last line of stdout.

ours '[["libero_spatial", 3, 0], ...]' STEPS CHUNK   episodes (suite, task, index) of one process, in order
peer SUITE TASK INDEX STEPS CHUNK                    one episode of vla-eval's adapter
tasks · rules · views · no_osmesa
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import sys
import types

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.libero import LIBERO, SUITES, _LogFile
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.worker.conformance import digest

logging.FileHandler = _LogFile  # what is imported here without our adapter may not write another user's log either

EVERYTHING = ("agentview", "wrist", "state", "language")
STOVE = 7  # of libero_goal: turn on the stove


def actions(suite, task, index, steps):
    """Smooth actions (steps, 7) float32 in the controller's range: the same for the same episode."""
    seed = int.from_bytes(hashlib.sha256(f"{suite}/{task}/{index}".encode()).digest()[:4], "big")
    drawn = np.random.RandomState(seed).uniform(-1, 1, (steps + 9, 7))
    smooth = np.stack([drawn[i : i + 10].mean(axis=0) for i in range(steps)])
    return np.clip(3 * smooth, -1, 1).astype(np.float32)


def summary(observation):
    """One observation by digests; `spread` tells a picture from a black frame."""
    images = observation.get("images", {})
    states = observation.get("states")
    return {
        "images": {name: digest(frame) for name, frame in sorted(images.items())},
        "spread": [float(frame.std()) for frame in images.values()],
        "shapes": [[*frame.shape, str(frame.dtype)] for frame in images.values()],
        "states": None if states is None else digest(states),
        "finite": states is None or bool(np.isfinite(states).all()),
        "task_description": observation.get("task_description"),
    }


def play(benchmark, task, index, steps, chunk, eager=False):
    """An episode looked at every `chunk` steps; `eager` renders between them too."""
    benchmark.reset(benchmark.tasks()[task], index)
    looks = [summary(benchmark.observe())]
    for i, action in enumerate(actions(benchmark.suite, task, index, steps)):
        seen = (i + 1) % chunk == 0
        if benchmark.step(action, seen or eager):
            break
        if seen:
            looks.append(summary(benchmark.observe()))
    physics = digest(benchmark._env.get_sim_state())
    return {"looks": looks, "physics": physics, "success": benchmark.result()["success"]}


def opened(suite, names=EVERYTHING, **parameters):
    benchmark = LIBERO(seed=7, suite=suite, **parameters)
    benchmark.select(names)
    return benchmark


def ours(episodes, steps, chunk):
    found = {}
    benchmark = opened(episodes[0][0])
    for suite, task, index in episodes:
        if benchmark.suite != suite:
            benchmark.close()
            benchmark = opened(suite)
        found[f"{suite}/{task}/{index}"] = play(benchmark, task, index, steps, chunk)
    return found


def peer(suite, task, index, steps, chunk):
    torch = types.ModuleType("torch")  # the adapter wraps its load, for initial states that here are plain arrays
    vars(torch).update(load=lambda *_, **__: None)
    sys.modules["torch"] = torch
    from vla_eval.benchmarks.libero.benchmark import LIBEROBenchmark
    from vla_eval.recording import NullEpisodeRecorder

    adapter = LIBEROBenchmark(suite=suite, send_wrist_image=True, send_state=True)
    adapter._recorder = NullEpisodeRecorder()
    chosen = dict(adapter.get_tasks()[task], episode_idx=index)
    raw, done = adapter.reset(chosen), False
    looks = [summary(adapter.make_obs(raw, chosen))]
    for i, action in enumerate(actions(suite, task, index, steps)):
        result = adapter.step({"actions": action})
        done = adapter.check_done(result)
        if done:
            break
        if (i + 1) % chunk == 0:
            looks.append(summary(adapter.make_obs(result.obs, chosen)))
    return {"looks": looks, "physics": digest(adapter._env.get_sim_state()), "success": bool(done)}


def tasks():
    from libero.libero.benchmark import get_benchmark_dict

    listed = {
        suite: [opened(suite, instruction=instruction).tasks() for instruction in ("task", "bddl")] for suite in SUITES
    }
    libero_pro = sorted(name for name in get_benchmark_dict() if name.endswith(("_env", "_ood", "_temp")))

    from libero.libero.envs.bddl_utils import get_problem_info

    from vlaeval_hpc.benchmarks.libero import _bddl_file

    benchmark = opened("libero_goal_lan")
    words = [get_problem_info(_bddl_file(task))["language_instruction"] for task in benchmark._load_suite().tasks]
    return {"tasks": listed, "without_files": libero_pro, "libero_goal_lan": words}


def refused(call):
    try:
        call()
    except (ConfigurationError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def rules():
    benchmark = opened("libero_goal")
    task = benchmark.tasks()[STOVE]
    found = {
        "instruction": task["instruction"],
        "episode_50": refused(lambda: benchmark.reset(task, 50)),
        "episode_-1": refused(lambda: benchmark.reset(task, -1)),
        "camera": refused(lambda: benchmark.select(["sideview"])),
    }
    for grip in (-1.0, -0.01, 0.0, 0.01, 1.0):
        benchmark.reset(task, 4)
        for _ in range(3):
            benchmark.step(np.array([0.2, 0, 0, 0, 0, 0.1, grip]), look=False)
        found[f"grip {grip}"] = digest(benchmark._env.get_sim_state())
    found["observe_unlooked"] = refused(benchmark.observe)

    sim = benchmark._env.sim
    found["before"] = benchmark.result()
    sim.data.set_joint_qpos("flat_stove_1_button", 1.5)
    found["done"] = benchmark.step(np.zeros(7), look=True)
    found["after"] = benchmark.result()
    ended = digest(benchmark._env.get_sim_state())
    found["done_again"] = benchmark.step(np.ones(7), look=True)
    found["ended"] = digest(benchmark._env.get_sim_state()) == ended and benchmark.result() == found["after"]
    benchmark.reset(task, 0)
    found["anew"] = benchmark.result()
    benchmark.close()
    benchmark.close()
    return found


def views():
    """One episode, rendered at every step, at the looks, of one camera, not at all; how often it was drawn, how many
    geoms, and how many there are."""
    opening = LIBERO(seed=7, suite="libero_goal")
    opening.tasks()
    from robosuite.utils.binding_utils import MjRenderContextOffscreen

    draw, drawn, geoms, found = MjRenderContextOffscreen.render, [0], [0], {}

    def counted(self, *view, **named):
        drawn[0] += 1
        draw(self, *view, **named)
        geoms[0] += self.scn.ngeom

    MjRenderContextOffscreen.render = counted
    for name, selected, eager in (
        ("eager", EVERYTHING, True),
        ("lazy", EVERYTHING, False),
        ("wrist", ("wrist",), False),
        ("blind", ("state",), False),
    ):
        opening.select(selected)
        drawn[0] = geoms[0] = 0
        found[name] = play(opening, 2, 11, 16, 8, eager)
        found[name]["drawn"] = drawn[0]
        found[name]["geoms"] = geoms[0]
        real = opening._start.context._real
        found[name]["gl"] = real is not None
        if real is not None:
            draw(real, 256, 256, opening._env.sim.model.camera_name2id("agentview"))
            found[name]["all"] = real.scn.ngeom
    return found


def no_osmesa():
    class Hidden(ctypes.CDLL):
        def __init__(self, name, *rest, **named):
            if name and "OSMesa" in str(name):
                raise OSError(f"{name}: cannot open shared object file")
            super().__init__(name, *rest, **named)

    ctypes.CDLL = Hidden
    ctypes.cdll._dlltype = Hidden
    benchmark = opened("libero_goal")
    return {"error": refused(lambda: benchmark.reset(benchmark.tasks()[0], 0))}


if __name__ == "__main__":
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "ours":
        value = ours(json.loads(rest[0]), int(rest[1]), int(rest[2]))
    elif verb == "peer":
        value = peer(rest[0], *map(int, rest[1:]))
    else:
        value = {"tasks": tasks, "rules": rules, "views": views, "no_osmesa": no_osmesa}[verb]()
    print(json.dumps(value))
