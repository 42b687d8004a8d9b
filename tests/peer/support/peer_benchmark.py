"""The toy task as a benchmark of vla-eval's, run by its own orchestrator."""

from point import MAX_STEPS, Point
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.specs import IMAGE_RGB, LANGUAGE, DimSpec


class PointBenchmark(StepBenchmark):
    def __init__(self, send_state=False, send_wrist_image=False):
        super().__init__()
        self._send_state = send_state
        self._send_wrist_image = send_wrist_image

    def get_tasks(self):
        return [{"name": f"point-{i}", "suite": "points", "task_id": i} for i in range(2)]

    def reset(self, task):
        self._point = Point(task["task_id"], task["episode_idx"])

    def step(self, action):
        done = self._point.step(action["actions"])
        return StepResult(obs=None, reward=0.0, done=done, info={})

    def make_obs(self, raw_obs, task):
        images = {"front": self._point.image()}
        if self._send_wrist_image:
            images["wrist"] = images["front"][::-1, ::-1]
        seen = {"images": images, "task_description": task["name"]}
        if self._send_state:
            seen["states"] = self._point.state()
        return seen

    def get_step_result(self, step_result):
        return {"success": self._point.near}

    def get_action_spec(self):
        return {"push": DimSpec("push", 2, "point_push", (-1, 1))}

    def get_observation_spec(self):
        return {"front": IMAGE_RGB, "language": LANGUAGE}

    def get_metadata(self):
        return {"max_steps": MAX_STEPS}
