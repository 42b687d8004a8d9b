"""What of simpler_env (github.com/simpler-env/SimplerEnv) an evaluation touches."""

import gymnasium as gym

ENVIRONMENT_MAP = {
    "widowx_stack_cube": ("StackGreenCubeOnYellowCubeBakedTexInScene-v0", {}),
    "google_robot_pick_coke_can": ("GraspSingleOpenedCokeCanInScene-v0", {}),
}


def make(task_name, **kwargs):
    env_name, own = ENVIRONMENT_MAP[task_name]
    return gym.make(env_name, obs_mode="rgbd", prepackaged_config=True, **own, **kwargs)
