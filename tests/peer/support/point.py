"""The toy task as two harnesses see it: a point that a camera shows and that is to be brought to the origin."""

import numpy as np

SIZE = 32
MAX_STEPS = 15
NEAR = 0.25


class Point:
    """`task` 0 can be won in time, `task` 1 starts too far away. Positions are those that the picture can show."""

    def __init__(self, task, episode):
        rng = np.random.default_rng([task, episode])
        angle = rng.uniform(0, 2 * np.pi)
        self.position = (0.9 if task == 0 else 4.0) * np.array([np.cos(angle), np.sin(angle)])
        self.steps = 0

    def step(self, action):
        self.position = self.position + 0.1 * np.clip(np.asarray(action, float), -1, 1)
        self.steps += 1
        return self.near

    @property
    def near(self):
        return bool(np.linalg.norm(self.position) < NEAR)

    def image(self):
        """(32, 32, 3) uint8 of noise; in the first pixel the direction home in red and green, the steps in blue."""
        picture = np.random.default_rng(self.steps).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        home = -self.position / max(float(np.linalg.norm(self.position)), 1e-9)
        picture[0, 0] = [*np.round(127 + 127 * home), self.steps]
        return picture

    def state(self):
        return np.array([*self.position, self.steps], np.float64)


def direction(image):
    """What a policy that looks at the picture does."""
    return (image[0, 0, :2].astype(np.float64) - 127) / 127
