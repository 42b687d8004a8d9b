"""What test_gym_benchmarks.py asks of PushT's and ALOHA's own Pythons: one JSON value on the last line of stdout.

pusht · aloha · aloha_blind
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.aloha import ALOHA
from vlaeval_hpc.benchmarks.pusht import PushT
from vlaeval_hpc.worker.conformance import digest


def bench(kind, *names):
    found = kind(seed=1000)
    found.select(names or ("top", "state", "language"))
    return found


def steer(at, rng, benchmark):
    """A noisy action near where the robot is, float32."""
    if isinstance(benchmark, PushT):
        return np.float32(np.clip(at + rng.uniform(-150, 150, 2), 0, 512))
    return np.float32(at + rng.normal(0, 0.2, 14))


def play(benchmark, task, episode, steps, every):
    """Looked at every `every` steps: digests of what was seen then, and the result."""
    rng = np.random.default_rng(episode)
    benchmark.reset(task, episode)
    looks = []
    for i in range(steps):
        if i % every == 0:
            seen = benchmark.observe()
            at = seen["states"]
            frame = [digest(seen["images"]["top"])] if "images" in seen else []
            looks.append([*frame, digest(at)])
        benchmark.step(steer(at, rng, benchmark), look=(i + 1) % every == 0)
    return [looks, {k: float(v) for k, v in benchmark.result().items()}]


def theirs(env, pixels, episode, steps, every, kind):
    """The same by gymnasium's interface, pixels at every step."""
    rng = np.random.default_rng(episode)
    seen, _ = env.reset(seed=1000 + episode)
    looks, most, won = [], 0.0, False
    for i in range(steps):
        if i % every == 0:
            at = seen["agent_pos"]
            looks.append([digest(pixels(seen)), digest(at)])
        seen, reward, done, _, _ = env.step(steer(at, rng, kind).astype(np.float64))
        most, won = max(most, float(reward)), won or bool(done)
    return [looks, {"success": float(won), "max_reward": most}]


def pusht():
    from gym_pusht.envs import PushTEnv

    benchmark = bench(PushT)
    (task,) = benchmark.tasks()
    env = PushTEnv(obs_type="pixels_agent_pos", render_mode="rgb_array")
    found = {
        "ours": [play(benchmark, task, e, 60, 8) for e in (3, 0)],
        "theirs": [theirs(env, lambda seen: seen["pixels"], e, 60, 8, benchmark) for e in (3, 0)],
        "blind": play(bench(PushT, "state"), task, 3, 60, 8),
    }
    first = bench(PushT)
    first.reset(task, 0)
    seen = first.observe()
    found["shape"] = [*seen["images"]["top"].shape, str(seen["images"]["top"].dtype), seen["states"].shape[0]]
    found["words"] = seen["task_description"]

    # The block is laid onto its outline, the disc aside.
    first._env.agent.position = (60, 60)
    first._env.block.angle = np.pi / 4
    first._env.block.position = (256, 256)
    found["covered"] = [first.step(np.array([60.0, 60.0])), first.result()]
    where = np.array(first._env.agent.position)
    found["after"] = [first.step(np.array([400.0, 400.0])), bool((where == first._env.agent.position).all())]
    return found


def aloha():
    from gym_aloha.env import AlohaEnv

    benchmark = bench(ALOHA)
    tasks = benchmark.tasks()
    found = {"tasks": tasks, "ours": [], "theirs": []}
    for task, episode in ((tasks[0], 5), (tasks[1], 2)):
        found["ours"].append(play(benchmark, task, episode, 8, 4))
    for task, episode in ((tasks[0], 5), (tasks[1], 2)):
        env = AlohaEnv(task["name"], obs_type="pixels_agent_pos")
        found["theirs"].append(theirs(env, lambda seen: seen["pixels"]["top"], episode, 8, 4, benchmark))
    frame = benchmark.observe()["images"]["top"]
    found["shape"] = [*frame.shape, str(frame.dtype), float(frame.std()) > 10]
    return found


def aloha_blind():
    """Without a camera, no GL; and the fourth stage is the end."""
    os.environ.pop("MUJOCO_GL", None)
    benchmark = bench(ALOHA, "state")
    task = benchmark.tasks()[0]
    played = play(benchmark, task, 5, 8, 4)
    benchmark.reset(task, 0)
    rewards = iter([0, 2, 1, 4])
    benchmark._env._env.task.get_reward = lambda physics: next(rewards)
    ends = [[benchmark.step(np.zeros(14)), dict(benchmark.result())] for _ in range(5)]
    with open("/proc/self/maps") as maps:
        mapped = {os.path.basename(line.split()[-1]) for line in maps if ".so" in line}
    return {
        "states": played[0],
        "ends": ends,
        "MUJOCO_GL": os.environ["MUJOCO_GL"],
        "mapped": sorted(lib for lib in mapped if any(word in lib for word in ("OSMesa", "EGL", "libGL", "OpenGL"))),
    }


if __name__ == "__main__":
    print(json.dumps({"pusht": pusht, "aloha": aloha, "aloha_blind": aloha_blind}[sys.argv[1]]()))
    sys.stdout.flush()
    os._exit(0)  # dm_control's contexts complain of threads that are gone already
