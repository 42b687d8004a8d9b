"""What test_calvin_and_simpler.py asks of a Python with vla-eval 0.8.0: one JSON value on the last line of stdout.

The simulators are those of surfaces/: CALVIN's and SimplerEnv's signatures over a toy.
"""

from __future__ import annotations

import json
import os
import sys
import types

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "surfaces"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "surfaces", "calvin_models"))

from vlaeval_hpc.benchmarks.calvin import CALVIN, _fnv1, start_state
from vlaeval_hpc.benchmarks.simpler import SimplerEnv, in_frame
from vlaeval_hpc.run.plan import Item
from vlaeval_hpc.worker.episode import run_episode

DIRECTIONS = {
    "pull the handle to open the drawer": (1, 0, 0),
    "push the handle to close the drawer": (-1, 0, 0),
    "press the button to turn on the led light": (0, 1, 0),
    "press the button to turn off the led light": (0, -1, 0),
    "push the sliding door to the left side": (0, 0, 1),
}


class Listener:
    """A client whose policy does what it is told, in chunks; it notes when it was asked and when it began anew."""

    connected = True

    def __init__(self, scale, chunk, give_up_after=99):
        self.scale, self.chunk, self.left = scale, chunk, give_up_after
        self.starts, self.told, self.ended = [], [], []

    def start(self, task):
        self.starts.append(task)
        self.steps = 0

    def act(self, observation):
        self.told.append(observation["task_description"])
        self.left -= 1
        way = np.array(DIRECTIONS[observation["task_description"]]) * (self.scale if self.left >= 0 else 0.0)
        return np.tile([*way, 0, 0, 0, 1.0], (self.chunk, 1))

    def end(self, result):
        self.ended.append(result)


def calvin(folder):
    from calvin_env.envs import play_table_env as table

    os.makedirs(os.path.join(folder, ".hydra"))
    open(os.path.join(folder, ".hydra", "merged_config.yaml"), "w").close()

    def run(control, scale, chunk, episode=4, names=("language",), steps=30, **how):
        benchmark = CALVIN(seed=0, dataset=folder, control=control, steps=steps, render="cpu")
        benchmark.select(names)
        client = Listener(scale, chunk, **how)
        (task,) = benchmark.tasks()
        record = run_episode(
            benchmark, task, Item("long_horizon", episode, 0), client, benchmark.max_steps, lambda _: None
        )
        env = benchmark._env
        found = {
            "record": {k: v for k, v in record.items() if k != "elapsed_sec"},
            "told": list(dict.fromkeys(client.told)),
            "starts": len(client.starts),
            "rendered": env.rendered,
            "egl": env.use_egl,
            "last": [np.asarray(part).tolist() for part in env.actions[-1]],
        }
        benchmark.close()
        return found

    found = {
        "delta": run("delta", 0.07, 8),
        "one by one": run("delta", 0.07, 1),
        "relative": run("relative", 1.0, 4),
        "seen": run("delta", 0.07, 8, names=("rgb_static", "language")),
        "missed": run("delta", 0.07, 1, give_up_after=4, steps=10),
    }
    found["alive"] = len(table.ALIVE)

    benchmark = CALVIN(seed=0, dataset=folder, render="gpu")
    os.environ.pop("EGL_VISIBLE_DEVICES", None)
    benchmark.select(["rgb_gripper", "rgb_static", "state"])
    benchmark.reset(benchmark.tasks()[0], 0)
    seen = benchmark.observe()
    found["shapes"] = {k: [*v.shape, str(v.dtype)] for k, v in seen["images"].items()}
    found["state"] = [seen["states"].tolist(), str(seen["states"].dtype)]
    found["EGL_VISIBLE_DEVICES"] = os.environ["EGL_VISIBLE_DEVICES"]

    # vla-eval's own class, as far as it needs no simulator.
    fnvhash = types.ModuleType("fnvhash")
    fnvhash.fnv1_32 = _fnv1
    sys.modules["fnvhash"] = fnvhash
    from calvin_agent.evaluation.multistep_sequences import get_sequences
    from vla_eval.benchmarks.calvin import benchmark as peer

    found["starts"] = True
    for condition, _ in get_sequences(24):
        pairs = zip(start_state(condition), peer._get_env_state_for_initial_condition(condition), strict=True)
        found["starts"] = found["starts"] and all(np.array_equal(ours, theirs) for ours, theirs in pairs)
    found["fnv1"] = [_fnv1(word) for word in (b"", b"a", b"foobar")]
    found["actions"] = []
    rng = np.random.default_rng(0)
    for control in ("delta", "absolute"):
        ours, theirs = CALVIN(seed=0, control=control), peer.CALVINBenchmark(absolute_action=control == "absolute")
        ours._command = theirs._last_act = rng.normal(size=7)
        for _ in range(50):
            action = rng.normal(size=7).astype(np.float32) * 2
            process = theirs._process_absolute_action if control == "absolute" else theirs._process_delta_action
            taken = ours._taken(np.asarray(action, np.float64))
            wanted = process({"actions": action}).astype(np.float32)
            same = np.allclose(np.concatenate([taken[0], taken[1], [taken[2]]]), wanted, rtol=0, atol=2e-6)
            found["actions"].append(bool(same))
    return found


def simpler():
    import gymnasium
    from vla_eval.benchmarks.simpler.benchmark import SimplerEnvBenchmark
    from vla_eval.recording import NullEpisodeRecorder

    SimplerEnvBenchmark._render_mode = "gpu"
    place = {
        "robot_x": [0.35, 0.35, 1],
        "robot_y": [0.2, 0.2, 1],
        "obj_x": [-0.35, -0.12, 5],
        "obj_y": [-0.02, 0.42, 5],
    }
    robot = {"robot": "google_robot_static", "sim_freq": 513, "control_freq": 3}
    matching, can = "widowx_stack_cube", "google_robot_pick_horizontal_coke_can"
    variant = {
        "env_name": "GraspSingleOpenedCokeCanAltGoogleCameraInScene-v0",
        "scene_name": "google_pick_coke_can_1_v4",
        "env_build_kwargs": {"lr_switch": True, **robot},
        "init_config": place,
    }
    found = {"same": [], "successes": [], "lengths": []}
    for win in ("truncation", "early_stop", "accumulate"):
        for gripper in ("binary", "sticky"):
            for suite, name, theirs in (
                ("widowx", matching, {"task_name": matching}),
                ("pick_coke_can_va", "horizontal_camera_1", {"task_name": can, **variant}),
            ):
                ours = SimplerEnv(seed=0, suite=suite, win=win, gripper=gripper, max_episode_steps=20)
                ours.select(["primary", "state", "language"])
                peer = SimplerEnvBenchmark(
                    success_mode=win, gripper_mode=gripper, send_state=True, max_episode_steps=20, **theirs
                )
                peer._recorder = NullEpisodeRecorder()
                task = next(t for t in ours.tasks() if t["name"] == name)
                for episode in (0, 7, 23):
                    del gymnasium.MADE[:]
                    ours.reset(task, episode)
                    raw = peer.reset({"name": name, "episode_idx": episode})
                    made = gymnasium.MADE[0] == gymnasium.MADE[1]
                    looks = [alike(ours.observe(), peer.make_obs(raw, {}))]
                    rng, ended = np.random.default_rng(episode), [False, False]
                    goal = ours._env.unwrapped._goal
                    for step in range(25):
                        way = np.clip((goal - ours._env.unwrapped._hand) * 2, -1, 1) if step < 12 else -goal
                        action = np.array([*way, *rng.normal(size=3), rng.uniform()], np.float32)
                        result = peer.step({"actions": action})
                        ended = [ours.step(action), peer.check_done(result)]
                        looks.append(alike(ours.observe(), peer.make_obs(result.obs, {})))
                        if ended[0] or ended[1]:
                            break
                    outcomes = [ours.result()["success"], bool(peer.get_step_result(result)["success"])]
                    found["same"].append([made, all(looks), ended[0] == ended[1], outcomes[0] == outcomes[1]])
                    found["successes"].append(outcomes[0])
                    found["lengths"].append(len(looks) - 1)
                after = ours.step(np.ones(7))
                found["same"].append([after, ours._env.unwrapped._steps == found["lengths"][-1]])
                ours.close()
                peer.cleanup()
    found["open"] = len(gymnasium.OPEN)
    return found


def alike(ours, theirs):
    theirs = {k: v for k, v in theirs.items() if k != "task_name"}
    assert sorted(ours) == sorted(theirs), (sorted(ours), sorted(theirs))
    return bool(
        np.array_equal(ours["images"]["primary"], theirs["images"]["primary"])
        and np.allclose(ours["states"], theirs["states"], rtol=0, atol=1e-6)
        and ours["states"].dtype == theirs["states"].dtype
        and np.array_equal(ours["tcp_pose"], theirs["tcp_pose"])
        and np.array_equal(ours["base_pose"], theirs["base_pose"])
        and ours["task_description"] == theirs["task_description"]
    )


def poses():
    """The furthest that our pose in a frame is from vla-eval's, of 500."""
    from vla_eval.rotation import matrix_to_quat, pose7_wxyz_to_mat4, quat_xyzw_to_wxyz

    rng, worst = np.random.default_rng(1), 0.0
    for _ in range(500):
        base, pose = rng.normal(size=(2, 7))
        base[3:], pose[3:] = (q / np.linalg.norm(q) for q in (base[3:], pose[3:]))
        matrix = np.linalg.inv(pose7_wxyz_to_mat4(base)) @ pose7_wxyz_to_mat4(pose)
        theirs = [*matrix[:3, 3], *quat_xyzw_to_wxyz(matrix_to_quat(matrix[:3, :3]))]
        worst = max(worst, float(np.abs(in_frame(base, pose) - theirs).max()))
    return worst


if __name__ == "__main__":
    print(json.dumps({"calvin": calvin(sys.argv[1]), "simpler": simpler(), "poses": poses()}))
