"""What test_kinetix.py asks of a Python with Kinetix and vla-eval 0.8.0: one JSON value on the last line of stdout."""

from __future__ import annotations

import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from vlaeval_hpc.benchmarks.kinetix import RTC12, Kinetix
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.worker.conformance import digest

STEPS = 30


def actions(episode):
    return np.random.default_rng(episode).uniform(-1, 1, (STEPS, 6)).astype(np.float32)


def bench(*names, **params):
    found = Kinetix(seed=0, suite="l", **params)
    found.select(names or ("state",))
    return found


def task(benchmark, name):
    return next(t for t in benchmark.tasks() if t["name"] == name)


def play(benchmark, name, episode, every=1):
    """Digests of what is seen each `every` steps, the step it ended at, and the result."""
    benchmark.reset(task(benchmark, name), episode)
    looks, over = [digest(benchmark.observe()["states"])], None
    for i, action in enumerate(actions(episode)):
        look = (i + 1) % every == 0
        if benchmark.step(action, look) and over is None:
            over = i
        if look:
            looks.append(digest(benchmark.observe()["states"]))
    return [looks, over, benchmark.result()["success"]]


def theirs(level, episode, noise):
    from vla_eval.benchmarks.kinetix.benchmark import KinetixBenchmark
    from vla_eval.recording import NullEpisodeRecorder

    adapter = KinetixBenchmark(observation_type="symbolic", action_noise_std=noise)
    adapter._recorder = NullEpisodeRecorder()
    chosen = {"name": level, "level": level, "episode_idx": episode}
    raw, over = adapter.reset(chosen), None
    looks = [digest(adapter.make_obs(raw, chosen)["state"])]
    for i, action in enumerate(actions(episode)):
        result = adapter.step({"actions": action})
        looks.append(digest(adapter.make_obs(result.obs, chosen)["state"]))
        if adapter.check_done(result):
            over = i
            break
    return [looks, over, adapter.get_step_result(result)["success"]]


def frame(level):
    from vla_eval.benchmarks.kinetix.benchmark import KinetixBenchmark
    from vla_eval.recording import NullEpisodeRecorder

    adapter = KinetixBenchmark(observation_type="pixels")
    adapter._recorder = NullEpisodeRecorder()
    chosen = {"name": level, "level": level, "episode_idx": 0}
    return adapter.make_obs(adapter.reset(chosen), chosen)["images"]["viewport"]


def everything():
    plain, noisy = bench(), bench(action_noise=0.1)
    noisy._engines = plain._engines  # compiled once
    found = {
        "noisy": play(noisy, "h4_cartpole", 3),
        "another level between": play(noisy, "grasp_easy", 1),
        "again": play(noisy, "h4_cartpole", 3),
        "another episode": play(noisy, "h4_cartpole", 4),
        "plain": play(plain, "h4_cartpole", 3),
        "lazy": play(plain, "h4_cartpole", 3, every=8),
        "theirs": theirs("h4_cartpole", 3, 0.1),
        "compiled": plain._engine[0]._cache_size(),
    }
    seeing = bench("viewport", "language")
    seeing._engines = plain._engines
    seeing.reset(task(seeing, "h4_cartpole"), 0)
    seen = seeing.observe()
    picture = seen["images"]["viewport"]
    found["frame"] = [*picture.shape, str(picture.dtype), digest(picture) == digest(frame("h4_cartpole"))]
    found["keys"] = sorted(seen)
    found["words"] = seen["task_description"]

    found["ends"] = []
    for goal in (False, True):
        plain.reset(task(plain, "h4_cartpole"), 0)
        plain._engine = (lambda *_, goal=goal: (plain._start, goal, True), *plain._engine[1:])
        found["ends"].append([plain.step(np.zeros(6)), plain.result(), plain.step(np.zeros(6))])
    found["states"] = [int(seen_of(suite).shape[0]) for suite in ("s", "m", "l")]
    try:
        Kinetix(seed=0, suite="rtc12").tasks()
    except ConfigurationError as error:
        found["rtc12"] = str(error)
    return found


def seen_of(suite):
    from kinetix.environment import env as kinetix_env
    from kinetix.environment.spaces import ActionType, ObservationType
    from kinetix.util.saving import load_from_json_file

    level = Kinetix(seed=0, suite=suite).tasks()[0]["level"]
    state, static, limits = load_from_json_file(level + ".json")
    kind = ObservationType.SYMBOLIC_FLAT
    env = kinetix_env.make_kinetix_env(ActionType.CONTINUOUS, kind, None, limits, static, auto_reset=False)
    return np.asarray(env.get_obs(state))


def worlds(folder):
    """rtc12 with a folder that holds the four levels that Kinetix does not have."""
    own = os.path.dirname(task(bench(), "grasp_easy")["level"])
    os.makedirs(os.path.join(folder, "l"))
    for level in ("catapult", "cartpole_thrust", "catcher_v3", "trampoline"):
        with open(os.path.join(own, "h4_cartpole.json")) as file, open(f"{folder}/l/{level}.json", "w") as copy:
            copy.write(file.read())
    listed = Kinetix(seed=0, suite="rtc12", worlds=folder).tasks()
    there = [t["level"].startswith(folder) for t in listed]
    from vla_eval.benchmarks.kinetix.benchmark import RTC_12_TASKS

    return [
        [t["name"] for t in listed] == [t["name"] for t in RTC_12_TASKS],
        list(RTC12.values()) == [t["level"] for t in RTC_12_TASKS],
        [t["name"] for t, own in zip(listed, there, strict=True) if own],
    ]


if __name__ == "__main__":
    value = everything()
    value["worlds"] = worlds(sys.argv[1])
    print(json.dumps(value))
