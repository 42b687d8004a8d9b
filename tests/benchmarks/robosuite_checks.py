"""What test_robosuite.py asks of robosuite's own Python: one JSON value on the last line of stdout.

frames · lift
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.robosuite import Robosuite
from vlaeval_hpc.benchmarks.start import start_seed
from vlaeval_hpc.worker.conformance import digest

STEPS = 8


def actions(episode, dim):
    return np.random.default_rng(episode).uniform(-1, 1, (STEPS, dim)).astype(np.float32)


def bench(suite, *names):
    found = Robosuite(seed=0, suite=suite)
    found.select(names or ("agentview", "wrist", "state"))
    return found


def looked(seen):
    return {**{k: digest(v) for k, v in sorted(seen.get("images", {}).items())}, "state": digest(seen["states"])}


def play(benchmark, name, episode, every=1):
    task = next(t for t in benchmark.tasks() if t["name"] == name)
    benchmark.reset(task, episode)
    looks = [looked(benchmark.observe())]
    for i, action in enumerate(actions(episode, 7 * len(benchmark._arms))):
        look = (i + 1) % every == 0
        benchmark.step(action, look)
        if look:
            looks.append(looked(benchmark.observe()))
    return looks


def theirs(name, robots, cameras, episode):
    """By robosuite itself, every camera at every step."""
    import robosuite

    env = robosuite.make(
        name,
        robots=robots,
        has_renderer=False,
        use_camera_obs=True,
        camera_names=list(cameras.values()),
        camera_heights=84,
        camera_widths=84,
        hard_reset=False,
        seed=start_seed(0, name, episode, bits=32),
    )

    def digests(seen):
        frames = {k: digest(seen[f"{camera}_image"][::-1]) for k, camera in sorted(cameras.items())}
        parts = [seen[f"robot{i}_{p}"] for i in range(len(robots)) for p in ("eef_pos", "eef_quat", "gripper_qpos")]
        return {**frames, "state": digest(np.concatenate(parts))}

    looks = [digests(env.reset())]
    for action in actions(episode, 7 * len(robots)):
        looks.append(digests(env.step(action.astype(np.float64))[0]))
    env.close()
    return looks


def frames():
    one, two = bench("one_arm"), bench("two_arm", "agentview", "wrist2", "state")
    found = {
        "stack": play(one, "Stack", 3),
        "lift": play(one, "Lift", 1, every=4),
        "again": play(one, "Stack", 3, every=4),
        "other": play(one, "Stack", 4, every=8),
        "two arms": play(two, "TwoArmLift", 2, every=4),
        "blind": play(bench("one_arm", "state"), "Stack", 3),
        "one camera": play(bench("one_arm", "wrist", "state"), "Stack", 3, every=8),
    }
    one.reset(one.tasks()[0], 0)
    frame = one.observe()["images"]["agentview"]
    found["frame"] = [*frame.shape, str(frame.dtype), float(frame.std()) > 20, frame.flags["C_CONTIGUOUS"]]
    drawn, sensor = [0], one._env.sim.render

    def counted(*words, **named):
        drawn[0] += 1
        return sensor(*words, **named)

    one._env.sim.render = counted
    for i in range(4):
        one.step(np.zeros(7), look=i == 3)
    found["drawn"] = drawn[0]
    one.step(np.zeros(7), look=False)
    try:
        one.observe()
    except RuntimeError as error:
        found["unlooked"] = str(error)
    cameras = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
    found["their stack"] = theirs("Stack", ["Panda"], cameras, 3)
    cameras = {"agentview": "agentview", "wrist2": "robot1_eye_in_hand"}
    found["their two arms"] = theirs("TwoArmLift", ["Panda", "Panda"], cameras, 2)
    return found


def lift():
    """A hand-written expert: above the cube, down, close, up."""
    benchmark = bench("one_arm", "state")
    task = benchmark.tasks()[0]
    found = []
    for episode in range(2):
        benchmark.reset(task, episode)
        won = []
        for i in range(120):
            cube, hand = benchmark._seen["cube_pos"], benchmark._seen["robot0_eef_pos"]
            to = cube + np.array([0, 0, 0.1 if i < 25 else 0.0 if i < 60 else 0.3])
            done = benchmark.step(np.array([*np.clip((to - hand) * 10, -1, 1), 0, 0, 0, -1 if i < 45 else 1]))
            won.append(done)
            if done:
                break
        after = benchmark._env.sim.get_state().flatten()
        again = benchmark.step(np.ones(7))
        same = bool((after == benchmark._env.sim.get_state().flatten()).all())
        found.append([len(won), won[-1], sum(won), benchmark.result(), again, same])
    benchmark.reset(task, 0)
    benchmark._limit = 2
    return {"episodes": found, "limit": [benchmark.step(np.zeros(7)) for _ in range(3)], "lost": benchmark.result()}


if __name__ == "__main__":
    print(json.dumps({"frames": frames, "lift": lift}[sys.argv[1]]()))
