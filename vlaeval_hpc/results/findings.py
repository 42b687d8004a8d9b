"""What was found wrong with episodes, a line for each file and kind, however many episodes it concerns."""

from __future__ import annotations

SHOWN = 3


class Findings:
    """Collects remarks on single episodes; the remark speaks of `episodes`."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[tuple[str, int]]] = {}

    def add(self, source: str, remark: str, task: str, episode: int) -> None:
        """Note one episode of a file."""
        self._found.setdefault((source, remark), []).append((task, episode))

    def lines(self) -> list[str]:
        """`FILE: 7 episodes REMARK (TASK 3, TASK 4, TASK 9, ...)`, in the order in which they were found first."""
        lines = []
        for (source, remark), episodes in self._found.items():
            shown = [f"{task} {episode}" for task, episode in episodes[:SHOWN]]
            if len(episodes) > SHOWN:
                shown.append("...")
            noun = "episode" if len(episodes) == 1 else "episodes"
            lines.append(f"{source}: {len(episodes)} {noun} {remark} ({', '.join(shown)})")
        return lines


Outcome = tuple[object, ...]


def outcome(episode: dict[str, object]) -> Outcome:
    """What two records of one episode must agree on; time and place may differ."""
    return (episode.get("metrics"), episode.get("steps"), episode.get("failure_reason"), episode.get("seed"))
