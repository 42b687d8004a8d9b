"""What test_vla_eval.py asks of an environment with LIBERO and vla-eval 0.8.0: JSON on the last line of stdout.

ours|theirs '[["libero_spatial", 3, 0], ...]' STEPS CHUNK   episodes by our own adapter, by vla-eval's behind ours
rules · listed
"""

from __future__ import annotations

import json
import os
import sys
import types

import numpy as np
from libero_checks import actions, digest, opened, play, refused, summary  # which finds vlaeval_hpc

from vlaeval_hpc.benchmarks.vla_eval import VLAEval

LIBERO = "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"


def ours(episodes, steps, chunk):
    return [play(opened(suite), task, index, steps, chunk) for suite, task, index in episodes]


def theirs(episodes, steps, chunk):
    torch = types.ModuleType("torch")  # the class wraps its load, for initial states that here are plain arrays
    vars(torch).update(load=lambda *_, **__: None)
    sys.modules["torch"] = torch
    suites = list(dict.fromkeys(suite for suite, _, _ in episodes))
    benchmark = VLAEval(seed=7, benchmark=LIBERO, variants={suite: {"suite": suite} for suite in suites})
    benchmark.select(["agentview", "wrist", "state", "language"])
    found = []
    for suite, task, index in episodes:
        chosen = [t for t in benchmark.tasks() if t["suite"] == suite][task]
        benchmark.reset(chosen, index)
        first = benchmark.observe()
        looks = [summary(first)]
        for i, action in enumerate(actions(suite, task, index, steps)):
            seen = (i + 1) % chunk == 0
            if benchmark.step(action, seen):
                break
            if seen:
                looks.append(summary(benchmark.observe()))
        physics = digest(benchmark._made._env.get_sim_state())
        found.append(
            {
                "looks": looks,
                "physics": physics,
                "success": bool(benchmark.result()["success"]),
                "name": chosen["name"],
                "more": sorted(first),
            }
        )
    about = {"max_steps": benchmark.max_steps, "max_episodes": benchmark.max_episodes, "tasks": len(benchmark.tasks())}
    return {"episodes": found, "about": about}


def drift():
    """A class of vla-eval's that remembers its last episode, draws by numpy, and names two tasks alike."""
    from vla_eval.benchmarks.base import StepBenchmark, StepResult
    from vla_eval.dirs import ensure_license
    from vla_eval.specs import IMAGE_RGB, LANGUAGE, DimSpec

    class Drift(StepBenchmark):
        made = []

        def __init__(self, limit=6, send_wrist_image=False, send_state=False, seed=None, licence=None):
            super().__init__()
            self.licence = licence
            self.limit, self.wrist, self.state, self.seed = limit, send_wrist_image, send_state, seed
            self.episodes = 0
            self.looked = 0
            self.made.append(self)

        def get_tasks(self):
            print("listing")
            return [{"name": n, "thing": object(), "level": i} for i, n in enumerate(("near", "far", "near"))]

        def reset(self, task):
            assert task["thing"] is not None
            if self.licence:
                ensure_license(self.licence, url="https://example.org", description="a licence")
            self.level = task["level"]
            self.episodes += 1
            self.at = np.random.uniform() + self.episodes + 0.001 * task["episode_idx"]

        def step(self, action):
            self.at += float(action["actions"][0])
            return StepResult(obs=None, reward=0.0, done=self.at > 5, info={})

        def make_obs(self, raw_obs, task):
            self.looked += 1
            images = {"front": np.full((4, 4, 3), 7, np.uint8)}
            if self.wrist:
                images["hand"] = np.full((4, 4, 3), 9, np.uint8)
            seen = {"images": images, "task_description": task["name"], "more": self.level}
            return {**seen, "state": [self.at, self.episodes]} if self.state else seen

        def get_step_result(self, step_result):
            return {"success": step_result.done, "distance": self.at, "unlisted": 1}

        def get_metric_keys(self):
            return {"success": "mean", "distance": "max"}

        def get_metadata(self):
            return {"max_steps": self.limit}

        def get_action_spec(self):
            return {"push": DimSpec("push", 1, "drift_push", (-1, 1))}

        def get_observation_spec(self):
            spec = {"front": IMAGE_RGB, "language": LANGUAGE}
            return {**spec, "hand": IMAGE_RGB} if self.wrist else spec

    return Drift


def rules():
    sys.modules["vla_eval_checks"] = module = types.ModuleType("vla_eval_checks")
    module.Drift = drift()
    target = "vla_eval_checks:Drift"

    def opened(names=("state",), seed=7, **params):
        found = VLAEval(seed=seed, benchmark=target, **params)
        found.select(names)
        return found

    def start(benchmark, name, episode):
        benchmark.reset(next(t for t in benchmark.tasks() if t["name"] == name), episode)
        return [float(v) for v in benchmark.observe()["states"]]

    benchmark = opened()
    found = {
        "tasks": benchmark.tasks(),
        "metrics": benchmark.metrics,
        "specs": [list(benchmark.action_spec), list(benchmark.observation_spec)],
        "alone": start(opened(), "far", 1),
        "after others": [start(benchmark, n, e) for n, e in (("near", 0), ("far", 0), ("far", 1))][-1],
        "other episode": start(opened(), "far", 2),
        "other seed": start(opened(seed=8), "far", 1),
        "own seed": [
            m.seed
            for m in (opened()._make("", wrist=False, state=False), opened(seed=3)._make("", wrist=False, state=False))
        ],
    }
    reused = opened(reuse=True)
    found["reused"] = [start(reused, "far", 1)[1] for _ in range(3)]

    limits = opened(variants={"short": {"limit": 2}, "long": {"limit": 4}})
    found["variants"] = [t["name"] for t in limits.tasks()]
    found["limits"] = [limits.max_steps]
    for name in ("short/near", "long/near"):
        start(limits, name, 0)
        done = [limits.step(np.array([0.0])) for _ in range(5)]
        found["limits"].append(done)
    start(limits, "long/near", 0)
    found["won"] = [limits.step(np.array([9.0])), limits.step(np.array([9.0]))]
    found["result"] = limits.result()

    seen = {}
    for names in (("front",), ("hand", "language"), ()):
        looked = opened(names)
        looked.reset(looked.tasks()[0], 0)
        before = looked._made.looked
        looked.step(np.array([0.1]), look=False)
        frame = looked.observe()
        seen["+".join(names)] = [
            sorted(frame.get("images", {})),
            sorted(frame),
            before,
            looked._made.looked,
            looked._made.wrist,
            looked._made.state,
        ]
    found["seen"] = seen
    looked = opened()
    looked.reset(looked.tasks()[0], 0)
    found["restarted"] = []
    for fresh in (False, True):
        looked._made._subtask_just_reset = fresh  # as its CALVIN says that the next instruction has begun
        looked.step(np.array([0.0]), look=False)
        found["restarted"].append(looked.restarted)
    os.environ["VLA_EVAL_ACCEPTED_LICENSES"] = "agreed-to"
    found["licences"] = [refused(lambda n=n: start(opened(licence=n), "far", 1)) for n in ("agreed-to", "not")]
    found["refused"] = [
        refused(lambda: VLAEval(seed=0)),
        refused(lambda: VLAEval(seed=0, benchmark="vla_eval.benchmarks.moon:Moon")),
        refused(lambda: VLAEval(seed=0, benchmark=target, colour="red")),
        refused(lambda: VLAEval(seed=0, benchmark=target, render="cpu")),
        refused(lambda: opened(("sideview",))),
        refused(lambda: VLAEval(seed=0, benchmark="vla_eval.benchmarks.calvin.benchmark:CALVINBenchmark").tasks()),
    ]
    return found


if __name__ == "__main__":
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb in ("ours", "theirs"):
        value = {"ours": ours, "theirs": theirs}[verb](json.loads(rest[0]), int(rest[1]), int(rest[2]))
    else:
        value = rules()
    print(json.dumps(value))
    sys.stdout.flush()
    os._exit(0)
