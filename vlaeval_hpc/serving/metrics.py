"""The server's counters, as Prometheus text (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

PREFIX = "vlaeval_hpc_"


class Histogram:
    """Counts of values up to each bound, their sum and number."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """Its lines under `name`."""
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum}"
        yield f"{name}_count {total}"


@dataclass
class Metrics:
    """Everything that the server counts."""

    sessions: int = 0
    running: int = 0
    waiting: int = 0
    observations: int = 0
    episodes: int = 0
    errors: int = 0
    refused: int = 0
    batch_size: Histogram = field(default_factory=lambda: Histogram((1, 2, 4, 8, 16, 32, 64, 128)))
    predict_seconds: Histogram = field(
        default_factory=lambda: Histogram((0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10))
    )

    def text(self) -> str:
        """The page that GET /metrics gives."""
        out = []
        for name, kind, help_text, value in (
            ("sessions", "gauge", "Connections open.", self.sessions),
            ("episodes_running", "gauge", "Episodes that run.", self.running),
            ("waiting", "gauge", "Observations that wait for the policy.", self.waiting),
            ("observations_total", "counter", "Observations answered.", self.observations),
            ("episodes_total", "counter", "Episodes begun.", self.episodes),
            ("errors_total", "counter", "Observations answered by an error.", self.errors),
            ("refused_total", "counter", "Requests without the token.", self.refused),
        ):
            out += [f"# HELP {PREFIX}{name} {help_text}", f"# TYPE {PREFIX}{name} {kind}", f"{PREFIX}{name} {value}"]
        for name, help_text, histogram in (
            ("batch_size", "Observations a call of the policy.", self.batch_size),
            ("predict_seconds", "Seconds a call of the policy.", self.predict_seconds),
        ):
            out += [f"# HELP {PREFIX}{name} {help_text}", f"# TYPE {PREFIX}{name} histogram"]
            out += histogram.lines(PREFIX + name)
        return "\n".join(out) + "\n"
