"""The table: the drawer follows the hand in x, the slider in z, and the LED is on where y is positive."""

import os

import numpy as np

ALIVE = []
EVENTS = []


class PlayTableSimEnv:
    def __init__(
        self,
        robot_cfg,
        seed,
        use_vr,
        bullet_time_step,
        cameras,
        show_gui,
        scene_cfg,
        use_scene_info,
        use_egl,
        control_freq=30,
    ):
        assert not use_vr and not show_gui and use_scene_info
        self.use_egl = use_egl
        self.rendered = 0
        self.steps = 0
        self.actions = []
        self._robot = np.zeros(15)
        self._scene = np.zeros(24)
        ALIVE.append(self)

    def reset(self, robot_obs=None, scene_obs=None):
        self._robot = np.array(robot_obs, dtype=np.float64)
        self._scene = np.array(scene_obs, dtype=np.float64)
        self._home = self._robot[:3].copy()
        EVENTS.append("reset")
        return self.get_obs()

    def get_camera_obs(self):
        self.rendered += 1
        static = np.full((200, 200, 3), min(self.steps, 255), np.uint8)
        gripper = np.full((84, 84, 3), min(self.steps + 7, 255), np.uint8)
        return {"rgb_static": static, "rgb_gripper": gripper}, {"depth_static": static[..., 0]}

    def get_state_obs(self):
        return {"robot_obs": self._robot.copy(), "scene_obs": self._scene.copy()}

    def get_obs(self):
        rgb_obs, depth_obs = self.get_camera_obs()
        obs = {"rgb_obs": rgb_obs, "depth_obs": depth_obs}
        obs.update(self.get_state_obs())
        return obs

    def get_info(self):
        moved = self._robot[:3] - self._home
        return {
            "robot_info": {"uid": 0},
            "scene_info": {
                "doors": {
                    "base__drawer": {"current_state": (moved[0],)},
                    "base__slide": {"current_state": (moved[2],)},
                },
                "lights": {"led": {"logical_state": int(moved[1] > 0.1)}},
            },
        }

    def step(self, action):
        if len(action) == 7:  # relative: the robot scales
            assert isinstance(action, np.ndarray)
            position, rotation, grip = action[:3] * 0.02, action[3:6] * 0.05, action[6]
            self._robot[:3] += position
            self._robot[3:6] += rotation
        else:
            position, rotation, grip = action
            assert len(position) == len(rotation) == 3
            self._robot[:3], self._robot[3:6] = position, rotation
        assert grip in (-1, 1)
        self._robot[6], self._robot[14] = 0.04 * (grip > 0), grip
        self.actions.append(action)
        self.steps += 1
        return self.get_obs(), 0, False, self.get_info()

    def close(self):
        ALIVE.remove(self)
        EVENTS.append("close")


def get_env(dataset_path, obs_space=None, show_gui=True, **kwargs):
    assert os.path.isfile(os.path.join(dataset_path, ".hydra", "merged_config.yaml")), dataset_path
    config = {"robot_cfg": {}, "seed": 0, "bullet_time_step": 240.0, "cameras": {}, "scene_cfg": {}, "use_egl": True}
    return PlayTableSimEnv(**config, show_gui=show_gui, use_vr=False, use_scene_info=True)
