"""What test_maniskill.py asks of ManiSkill's own Python: one JSON value on the last line of stdout.

frames · no_vulkan
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.maniskill import SUITES, ManiSkill
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.worker.conformance import digest, play, random_actions

STEPS = 6


def bench(suite):
    found = ManiSkill(seed=0, suite=suite, render="cpu")
    found.select(found.observation_spec)
    return found


def theirs(name, specs, episode):
    """By ManiSkill itself, the camera at every step."""
    import gymnasium

    env = gymnasium.make(name, obs_mode="rgb", control_mode="pd_ee_delta_pose", render_backend="cpu")

    def digests(seen):
        frame = seen["sensor_data"]["base_camera"]["rgb"][0].numpy()
        return [digest(frame), digest(seen["agent"]["qpos"][0].numpy().astype(np.float32))]

    looks = [digests(env.reset(seed=episode)[0])]
    for action in random_actions(specs, f"{name}/{episode}", STEPS):
        looks.append(digests(env.step(action)[0]))
    limit = env.unwrapped.spec.max_episode_steps or gymnasium.spec(name).max_episode_steps
    from mani_skill.utils.registration import REGISTERED_ENVS

    found = [looks, limit or REGISTERED_ENVS[name].max_episode_steps]
    env.close()
    return found


def frames():
    found = {}
    for suite, name, episode in (("panda", "PickCube-v1", 3), ("stick", "PushT-v1", 0)):
        benchmark = bench(suite)
        task = next(t for t in benchmark.tasks() if t["name"] == name)
        ours = play(benchmark, task, episode, STEPS)
        looks = [[look["images.base"], look["states"]] for look in ours["looks"]]
        found[name] = [[looks, SUITES[suite][name].steps], theirs(name, benchmark.action_spec, episode), ours["faults"]]
        if suite == "panda":
            benchmark.reset(task, 0)
            env = benchmark._env
            env.goal_site.set_pose(env.cube.pose)
            won = [benchmark.step(benchmark.hold(None)) for _ in range(3)]
            found["won"] = [won[-1] or won[0], benchmark.result()["success"], benchmark.step(np.ones(7))]
            benchmark.reset(task, 0)
            benchmark._limit = 2
            found["limit"] = [benchmark.step(np.zeros(7)) for _ in range(3)] + [benchmark.result()["success"]]
            wide = ManiSkill(seed=0, resolution=64, render="cpu")
            wide.select(["base"])
            wide.reset(task, 0)
            frame = wide.observe()["images"]["base"]
            found["frame"] = [*frame.shape, str(frame.dtype), float(frame.std()) > 20]
    return found


def no_vulkan():
    os.environ["VK_ICD_FILENAMES"] = "/nonexistent"
    benchmark = bench("panda")
    try:
        benchmark.reset(benchmark.tasks()[0], 0)
    except ConfigurationError as error:
        return str(error)
    return None


if __name__ == "__main__":
    print(json.dumps({"frames": frames, "no_vulkan": no_vulkan}[sys.argv[1]]()))
