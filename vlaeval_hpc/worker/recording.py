"""What is kept of an episode beside its outcome: a video, and its actions and states."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Observation
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_atomic
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.worker.parquet import Column, parquet
from vlaeval_hpc.worker.video import Film, find_ffmpeg, side_by_side

OUTCOMES = ("success", "failure", "done", "error")
"""What the names of files end in; done: the benchmark has no `success`."""


class Recorder:
    """Records those episodes of a shard that `wanted` names: the plan's `recording`, empty for none at all."""

    def __init__(self, run: RunDirectory, shard: int, plan: Plan) -> None:
        wanted = plan.recording
        self._run = run
        self._folders = _folders([str(task["name"]) for task in plan.tasks])
        self._which = wanted.get("which", "all")
        self._steps = bool(wanted.get("steps"))
        self._video = bool(wanted.get("video"))
        self._every = int(wanted.get("every", 1))
        self._fps = float(wanted.get("fps", 20))
        self._wanted: Optional[Sequence[str]] = wanted.get("cameras")
        self._partial = run.videos / f".shard{shard}-{os.getpid()}.mp4"
        self.looks: List[str] = []
        """What the policy looks at."""
        self.cameras: List[str] = []
        """What is filmed."""
        self.added: List[str] = []
        """What only the video shows."""
        self.blind = False
        """Whether the policy looks at no camera, while one is filmed: it needs no `look`."""
        if self._video:
            self._ffmpeg = find_ffmpeg()
            run.videos.mkdir(exist_ok=True)
            for left in run.videos.glob(f".shard{shard}-*"):  # by a process of ours that was killed
                left.unlink()

    def select(self, benchmark: Benchmark, names: Sequence[str]) -> None:
        """Have the benchmark ready for what the policy looks at, and for the cameras that are filmed."""
        benchmark.select(names)
        self.looks = list(names)
        if not self._video:
            return
        every = [k for k, spec in benchmark.observation_spec.items() if "rgb" in spec.format]
        self.cameras = list(self._wanted or benchmark.cameras or every[:1])
        if not self.cameras:
            raise ConfigurationError("recording=video: the benchmark has no camera")
        self.added = [camera for camera in self.cameras if camera not in self.looks]
        self.blind = bool(self.added) and not benchmark.cameras
        if self.added:
            benchmark.select([*names, *self.added])

    def watch(self, benchmark: Benchmark, task: Mapping[str, Any], item: Item) -> "Take":
        """The benchmark for one episode, to be observed and stepped through what this gives."""
        chosen = not isinstance(self._which, int) or item.episode < self._which
        film = Film(self._ffmpeg, self._partial, self._fps) if self._video and chosen else None
        table = _Table(task, item) if self._steps and chosen else None
        return Take(benchmark, item, self, table, film)

    def due(self, steps: int) -> bool:
        """Whether a picture is taken after so many steps."""
        return steps % self._every == 0

    def as_selected(self, seen: Observation) -> Observation:
        """What of an observation the policy asked for."""
        if not self.added or "images" not in seen:
            return seen
        images = {k: v for k, v in seen["images"].items() if k not in self.added}
        rest = {k: v for k, v in seen.items() if k != "images"}
        return {**rest, "images": images} if images else rest

    def keep(self, item: Item, outcome: str, table: Optional["_Table"], film: Optional[Film]) -> Dict[str, str]:
        """Put the files in their places: where they are, relative to the run's folder.

        Raises OSError or InfrastructureError where that fails.
        """
        wanted = self._which != "failures" or outcome != "success"
        folder, name = self._folders[item.task], f"{item.episode:04d}"
        found = {}
        if film is not None:
            written = film.close()
            place = self._place(self._run.videos / folder, name, outcome, ".mp4", wanted and written)
            if place is None:
                film.drop()
            else:
                os.replace(str(self._partial), str(place))
                found["video"] = place.relative_to(self._run.root).as_posix()
        if table is not None:
            place = self._place(self._run.steps / folder, name, outcome, ".parquet", wanted)
            if place is not None:
                write_atomic(place, table.pack(outcome))
                found["steps_file"] = place.relative_to(self._run.root).as_posix()
        return found

    def _place(self, folder: Path, name: str, outcome: str, suffix: str, wanted: bool) -> Optional[Path]:
        """Where a file goes, None where it is not kept; what an earlier try left there goes.

        An outcome stands before an error, whichever came first: as it does among the records.
        """
        others = [folder / f"{name}_{other}{suffix}" for other in OUTCOMES if other != outcome]
        there = [path for path in others if path.exists()]
        if outcome == "error" and there:
            return None
        for path in there:
            path.unlink()
        if not wanted:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}_{outcome}{suffix}"


class Take:
    """One episode of a benchmark, observed and stepped as the benchmark is, and recorded on the way.

    What cannot be recorded is said, and costs no episode.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        item: Item,
        recorder: Optional[Recorder] = None,
        table: Optional["_Table"] = None,
        film: Optional[Film] = None,
    ) -> None:
        self._benchmark = benchmark
        self._item = item
        self._table = table
        self._film = film
        self._recorder = recorder
        self._steps = 0
        self._seen: Optional[Observation] = None

    @property
    def restarted(self) -> bool:
        """As the benchmark's."""
        return self._benchmark.restarted

    def observe(self) -> Observation:
        """What the policy looks at, as of now."""
        seen, self._seen = self._seen, None
        if seen is None and self._film is not None and self._steps == 0:
            seen = self._benchmark.observe()
            self._shoot(seen)
        if seen is not None and self._recorder is not None:
            seen = self._recorder.as_selected(seen)
        elif self._recorder is not None and self._recorder.added:
            seen = self._benchmark.glance(self._recorder.looks)  # what is only filmed is not rendered for this
        else:
            seen = self._benchmark.observe()
        if self._table is not None:
            self._table.told = str(seen.get("task_description", self._table.told))
        return seen

    def step(self, action: "np.ndarray[Any, Any]", look: bool = True) -> bool:
        """Apply one action (dim,); whether the episode is over."""
        if self._table is not None:
            self._table.act(self._benchmark.state(), action)
        recorder = self._recorder
        due = recorder is not None and self._film is not None and recorder.due(self._steps + 1)
        done = self._benchmark.step(action, due or (look and not (recorder is not None and recorder.blind)))
        self._steps += 1
        self._seen = None
        if self._table is not None:
            self._table.dones.append(bool(done))
        if due and recorder is not None:
            # Where the policy looks too, it gets the same look: nothing is rendered twice.
            seen = self._benchmark.observe() if look else self._benchmark.glance(recorder.cameras)
            self._seen = seen if look else None
            self._shoot(seen)
        return done

    def keep(self, outcome: str) -> Dict[str, str]:
        """End the files: `video` and `steps_file`, relative to the run's folder, as far as there are any."""
        if self._recorder is None:
            return {}
        try:
            return self._recorder.keep(self._item, outcome, self._table, self._film)
        except (OSError, ValueError, InfrastructureError) as error:
            print(f"warning: {self._item.task} episode {self._item.episode} is not recorded: {error}", flush=True)
            self.drop()
            return {}

    def drop(self) -> None:
        """Nothing of this episode counts."""
        if self._film is not None:
            self._film.drop()

    def _shoot(self, seen: Observation) -> None:
        if self._film is None or self._recorder is None:
            return
        try:
            frames = {camera: seen["images"][camera] for camera in self._recorder.cameras}
            self._film.add(side_by_side(list(frames.values())))
            if self._table is not None:
                self._table.cameras = {name: [frame.shape[1], frame.shape[0]] for name, frame in frames.items()}
        except (OSError, ValueError, KeyError) as error:
            print(f"warning: the episode is filmed no further: {type(error).__name__}: {error}", flush=True)
            self._film.drop()
            self._film = None


class _Table:
    """An episode's steps, a row each: the state before the action, the action, whether it ended the episode.

    `cameras`: what the video beside it shows, from the left, (width, height) each.
    """

    def __init__(self, task: Mapping[str, Any], item: Item) -> None:
        self._item = item
        self.told = str(task.get("instruction", task["name"]))
        self.dones: List[bool] = []
        self.cameras: Dict[str, List[int]] = {}
        self._told: List[str] = []
        self._states: List[Any] = []
        self._actions: List[Any] = []

    def act(self, state: Optional["np.ndarray[Any, Any]"], action: "np.ndarray[Any, Any]") -> None:
        self._told.append(self.told)
        self._states.append(state)
        self._actions.append(np.array(action))

    def pack(self, outcome: str) -> bytes:
        """The Parquet file. An action that broke the simulator is no step."""
        count, item = len(self.dones), self._item
        columns: Dict[str, Column] = {
            "task": [item.task] * count,
            "episode": np.full(count, item.episode),
            "seed": np.full(count, item.seed),
            "step": np.arange(count),
            "instruction": self._told[:count],
        }
        shapes = {None if s is None else s.shape for s in self._states[:count]}
        if len(shapes) == 1 and None not in shapes:
            columns["state"] = np.stack(self._states[:count])
        if count:
            columns["action"] = np.stack(self._actions[:count])
        columns["done"] = np.array(self.dones, dtype=np.bool_)
        return parquet(columns, {"outcome": outcome, "cameras": json.dumps(self.cameras)})


def outcome_of(result: Mapping[str, Any]) -> str:
    """One of OUTCOMES, of an episode's record."""
    if result.get("failure_reason"):
        return "error"
    if "success" not in result["metrics"]:
        return "done"
    return "success" if result["metrics"]["success"] else "failure"


def _folders(tasks: Sequence[str]) -> Dict[str, str]:
    """A folder's name for each task, no two the same."""
    plain = {task: re.sub(r"[^\w.-]+", "_", task)[:100].lstrip(".") or "_" for task in tasks}
    names = list(plain.values())
    digests = {task: hashlib.sha256(task.encode()).hexdigest()[:8] for task in tasks}
    return {task: name if names.count(name) == 1 else f"{name}-{digests[task]}" for task, name in plain.items()}
