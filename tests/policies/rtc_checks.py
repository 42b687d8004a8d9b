"""What test_rtc.py asks of a Python with JAX: rtc_checks.py FOLDER, one JSON value on the last line of stdout."""

import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import itertools

from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.mixer import FlowMixer, prefix_weights
from vlaeval_hpc.policies.rtc import RTC

folder = Path(sys.argv[1])
answers = np.load(folder / "answers.npz")
seen, noise = answers["seen"], answers["noise"]
found = {}

for level in ("grasp_easy", "h4_cartpole"):
    mixer = FlowMixer.load(folder / f"worlds_l_{level}.pkl")
    chunk = mixer.sample(seen, noise, 5, None, None, 5.0)
    found[f"as Flax, {level}"] = float(np.abs(chunk - answers[level]).max())
    found["sizes"] = [mixer.observation_dim, mixer.action_dim, mixer.chunk]

# The guidance's gradient against one by differences, at time 0, where its strength is the most allowed.
mixer = FlowMixer.load(folder / "worlds_l_grasp_easy.pkl")
before = np.random.default_rng(3).normal(size=noise.shape).astype(np.float32)
weights = prefix_weights(2, 5, 8, "exp")
most = 5.0


def half_error(at):
    clean = mixer.sample(seen, at.astype(np.float32), 1, None, None, most)  # one step from 0: what it denoises to
    return -0.5 * float((((before - clean) * np.sqrt(weights)[:, None]).astype(np.float64) ** 2).sum())


pull = mixer.sample(seen, noise, 1, before, weights, most) - mixer.sample(seen, noise, 1, None, None, most)
rng = np.random.default_rng(4)
way = rng.normal(size=noise.shape)
way /= np.linalg.norm(way)
step = 3e-3
slope = (half_error(noise + step * way) - half_error(noise - step * way)) / (2 * step)
found["gradient"] = [float((pull * way).sum() / most), slope]


def run(method, delay, horizon, steps=40, **more):
    """How far each action of a chunk is from what the one before says of the same moment, (8 - horizon,), on average;
    and the chunks of the episode."""
    policy = RTC(checkpoint=str(folder), method=method, **more)
    policy.load()
    session = Session("s", {"level": "/somewhere/l/grasp_easy"}, seed=7)
    rng, chunks = np.random.default_rng(5), []
    for now in range(0, steps, horizon):
        told = {"step": now, "delay": delay, "execute_horizon": horizon}
        look = seen + 0.05 * rng.normal(size=seen.shape).astype(np.float32)
        session.step = now
        chunks += policy.predict([{"states": look, "realtime": told}], [session])
    pairs = itertools.pairwise(chunks)
    away = [np.linalg.norm(new[: 8 - horizon] - old[horizon:], axis=1) for old, new in pairs]
    return np.mean(away, axis=0), np.array(chunks)


for method in ("naive", "rtc"):
    found[method] = run(method, 2, 3)[0].tolist()
found["hard"] = run("rtc", 2, 3, schedule="zeros")[0].tolist()
found["again"] = bool((run("rtc", 2, 3)[1] == run("rtc", 2, 3)[1]).all())

policy = RTC(checkpoint=str(folder))
policy.load()
plain, other = (Session(n, {"level": "grasp_easy"}, seed=s) for n, s in (("a", 1), ("b", 2)))
together = policy.predict([{"states": seen}, {"states": seen}], [plain, other])
alone = policy.predict([{"states": seen}], [Session("c", {"level": "grasp_easy"}, seed=2)])
found["batches"] = bool((together[1] == alone[0]).all() and (together[0] != together[1]).any())
found["shape"] = [list(together[0].shape), str(together[0].dtype)]
try:
    policy.predict([{"states": seen}], [Session("d", {"level": "trampoline"})])
except ValueError as error:
    found["no policy"] = str(error)
print(json.dumps(found))
