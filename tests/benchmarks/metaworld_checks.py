"""What test_metaworld.py asks of Meta-World's own Python: one JSON value on the last line of stdout.

again SLICE · sets · frames · without_gl · dtypes · gl_error · bc
"""

from __future__ import annotations

import json
import os
import sys
import warnings

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.metaworld import INSTRUCTIONS, SUITES, MetaWorld
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.worker.conformance import digest

warnings.filterwarnings("ignore", message="Constant")  # the experts', of their own actions
STEPS = 80


def task(name):
    return {"name": name, "instruction": INSTRUCTIONS[name]}


def bench(*names, seed=0):
    found = MetaWorld(seed=seed)
    found.select(names or ("state", "language"))
    return found


def play(benchmark, name, episode, steps=STEPS, every=1, dtype=np.float32):
    """Meta-World's expert with noise, looked at every `every` steps: digest of states and outcomes, frames, success."""
    from metaworld.policies import ENV_POLICY_MAP

    expert = ENV_POLICY_MAP[name]()
    noise = np.random.default_rng(episode).normal(0, 0.2, (steps, 4))
    benchmark.reset(task(name), episode)
    seen = benchmark.observe()
    states, frames, won = [seen["states"]], [seen.get("images", {}).get("corner2")], []
    for i in range(steps):
        # Rounded to float32: what the action is does not depend on how it is sent.
        action = np.float32(np.clip(expert.get_action(benchmark._state) + noise[i], -1, 1)).astype(dtype)
        look = (i + 1) % every == 0
        won.append(benchmark.step(action, look))
        if look:
            seen = benchmark.observe()
            states.append(seen["states"])
            frames.append(seen.get("images", {}).get("corner2"))
    return {"states": states, "frames": frames, "digest": digest(*states, won), "success": won[-1]}


def pollute():
    np.random.seed(int.from_bytes(os.urandom(4), "big"))


def scene(benchmark):
    """All that a camera would see, and the physics would go on from."""
    import mujoco

    model, data = benchmark._env.model, benchmark._env.data
    physics = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
    placed = (data.geom_xpos, data.geom_xmat, data.site_xpos, data.site_xmat, data.xpos, model.body_pos, model.site_pos)
    return digest(physics, *placed)


def again(part):
    """Tasks of MT50 in which an episode is not the same after two others as in a simulator of its own."""
    differ = []
    for name in list(INSTRUCTIONS)[int(part) :: 2]:
        fresh, used = bench(), bench()
        play(used, name, 1, 100)
        used.reset(task(name), 2)
        for action in np.random.uniform((-1, -0.5, -1.5, -1), (1, 1.5, 0.5, 1), (60, 4)):
            used.step(action)
        scenes = []
        for benchmark in (fresh, used):
            pollute()
            benchmark.reset(task(name), 7)
            scenes.append([scene(benchmark), play(benchmark, name, 7, 30)["digest"]])
        if scenes[0] != scenes[1]:
            differ.append(name)
    return differ


def sets():
    """Our lists and Meta-World's."""
    from metaworld import env_dict

    return {
        "mt10": [list(SUITES["mt10"]), list(env_dict.MT10_V3)],
        "mt50": [list(SUITES["mt50"]), list(env_dict.MT50_V3)],
        "tasks": MetaWorld(seed=0, suite="mt50").tasks(),
    }


def frames():
    """The camera: looked at each step and each 8th, and where in the picture the goal is."""
    eager = bench("corner2", "state")
    lazy = bench("corner2", "state")
    first = play(eager, "push-v3", 4, 24)
    eager.close()
    # Another task between: another GL context.
    play(lazy, "door-open-v3", 0, 2)
    second = play(lazy, "push-v3", 4, 24, every=8)
    blind = play(bench("state"), "push-v3", 4, 24)
    lazy.reset(task("push-v3"), 2)
    lazy.reset(task("push-v3"), 4)
    start = lazy.observe()["images"]["corner2"]
    lazy.step(np.zeros(4))
    frame = lazy.observe()["images"]["corner2"]
    model, data = lazy._env.model, lazy._env.data
    camera = data.camera("corner2")
    goal = np.array(lazy._env._target_pos)

    def pixel(point):
        x, y, z = camera.xmat.reshape(3, 3).T @ (point - camera.xpos)
        scale = 128 / np.tan(np.radians(model.cam_fovy[camera.id]) / 2) / -z
        # The camera's picture, turned by half a turn.
        return [255 - round(127.5 - y * scale), 255 - round(127.5 + x * scale)]

    row, column = pixel(goal)
    return {
        "same_start": digest(start) == digest(first["frames"][0]),
        "same_frames": [digest(a) == digest(b) for a, b in zip(first["frames"][::8], second["frames"], strict=True)],
        "distinct": len({digest(f) for f in first["frames"]}),
        "same_states": [digest(a) == digest(b) for a, b in zip(first["states"][::8], second["states"], strict=True)],
        "blind": blind["digest"] == first["digest"],
        "shape": [*frame.shape, str(frame.dtype), frame.flags["C_CONTIGUOUS"]],
        "goal": frame[row, column].tolist(),
        "above_is_up": pixel(goal + np.array([0, 0, 0.1]))[0] < row,
    }


def without_gl():
    os.environ.pop("MUJOCO_GL", None)
    benchmark = bench()
    play(benchmark, "reach-v3", 0, 5)
    with open("/proc/self/maps") as maps:
        mapped = {os.path.basename(line.split()[-1]) for line in maps if ".so" in line}
    return {
        "MUJOCO_GL": os.environ["MUJOCO_GL"],
        "mapped": sorted(lib for lib in mapped if any(word in lib for word in ("OSMesa", "EGL", "libGL", "OpenGL"))),
    }


def dtypes():
    return [play(bench(), "push-v3", 1, dtype=dtype)["digest"] for dtype in (np.float32, np.float64)]


def gl_error():
    os.environ["MUJOCO_GL"] = "moon"
    try:
        bench("corner2").reset(task("reach-v3"), 0)
    except ConfigurationError as error:
        return str(error)
    return None


def bc():
    """Wins of a checkpoint in the first four episodes of each task, and of push when told to reach."""
    from vlaeval_hpc.policies.base import Session
    from vlaeval_hpc.policies.bc import BC

    def wins(step, name, instruction):
        policy = BC(checkpoint=step)
        policy.load()
        benchmark = bench(*policy.observation_spec)
        won = 0
        for episode in range(4):
            benchmark.reset({"name": name, "instruction": instruction}, episode)
            for _ in range(benchmark.max_steps):
                chunk = policy.predict([benchmark.observe()], [Session(id="")])[0]
                if benchmark.step(chunk[0]):
                    won += 1
                    break
        return won

    told = {step: sum(wins(step, name, INSTRUCTIONS[name]) for name in SUITES["bc5"]) for step in (0, 100, 10000)}
    return {"told": told, "push told to reach": wins(10000, "push-v3", INSTRUCTIONS["reach-v3"])}


if __name__ == "__main__":
    print("\n" + json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
