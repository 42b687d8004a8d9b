"""gymnasium's make and wrapper around what ManiSkill2's environments of SimplerEnv give, with none of their physics."""

import zlib

import numpy as np

MADE = []
OPEN = []


class Agent:
    closed = 0.25

    def get_gripper_closedness(self):
        return np.float32(self.closed)


class Scene:
    """The hand moves as it is told; it is done while it is nearer than 0.3 to a place that the start decides."""

    def __init__(self, name, arguments):
        self.robot_uid = arguments.get("robot") or ("widowx" if "Cube" in name else "google_robot_static")
        self.agent = Agent()
        self._limit = arguments.get("max_episode_steps", 12)
        self._name = name

    def reset(self, seed=None, options=None):
        start = zlib.crc32(repr((self._name, sorted(options["obj_init_options"].items()), seed)).encode())
        self._hand = np.zeros(3)
        self._goal = np.random.RandomState(start).uniform(-1, 1, 3)
        self._steps = 0
        return self._obs(), {}

    def step(self, action):
        assert action.shape == (7,) and action.dtype == np.float64
        self._hand = self._hand + 0.2 * action[:3]
        self.agent.closed = (1 - float(np.clip(action[6], -1, 1))) / 2
        self._steps += 1
        near = bool(np.linalg.norm(self._hand - self._goal) < 0.5)
        return self._obs(), float(near), near, self._steps >= self._limit, {}

    def get_language_instruction(self):
        return f"do {self._name}"

    def _obs(self):
        turn = np.array([1.0, 0.1 * self._steps, 0.0, 0.2])
        pose = np.concatenate([self._hand + np.array([0.3, 0.1, 0.9]), turn / np.linalg.norm(turn)]).astype(np.float32)
        base = np.array([0.147, 0.028, 0.87, 0, 0, 0, 1], np.float32)
        picture = np.full((48, 64, 3), self._steps, np.uint8)
        cameras = {name: {"rgb": picture + i} for i, name in enumerate(("overhead_camera", "3rd_view_camera"))}
        return {"image": cameras, "agent": {"base_pose": base, "qpos": np.zeros(8)}, "extra": {"tcp_pose": pose}}


class Wrapper:
    def __init__(self, scene):
        self.unwrapped = scene
        self.reset, self.step, self.robot_uid = scene.reset, scene.step, scene.robot_uid
        OPEN.append(self)

    def close(self):
        OPEN.remove(self)


def make(name, **arguments):
    MADE.append((name, arguments))
    assert arguments.pop("obs_mode") == "rgbd"
    return Wrapper(Scene(name, arguments))
