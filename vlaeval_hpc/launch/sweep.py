"""A sweep on a cluster: its folder's name, and the job that comes after the merges of all its points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.config.sweep import Axis
from vlaeval_hpc.launch import graph
from vlaeval_hpc.launch.cache import digest
from vlaeval_hpc.launch.jobs import Job, Submission, read_submissions, record
from vlaeval_hpc.launch.planning import safe_name
from vlaeval_hpc.run.directory import RunDirectory

NOT_DECISIVE = ("environment", "hang_timeout", "max_batch_size", "max_wait_time", "replicas")


@dataclass(frozen=True)
class SweepTask:
    """What the runs show together, as a job."""

    folder: str
    verb: str

    def __call__(self) -> None:
        """Write sweep.json and sweep.csv from whatever the merges left (`merge`), or go on with it (`resume`)."""
        with (Path(self.folder) / "sweep.log").open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-m", "vlaeval_hpc", self.verb, self.folder],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        if done.returncode > 1:  # 1: a point is open, which the files tell
            sys.exit(done.returncode)


def sweep_name(config: Config, varied: Sequence[Axis]) -> str:
    """A folder name that the same sweep gets again: model, benchmark, and a hash of what varies and what does not."""
    keys = {axis.key for axis in varied}
    fixed = {
        key: value
        for section in ("model", "benchmark")
        if section not in keys
        for key, value in _flat(asdict(getattr(config, section)), section)
        if key not in keys and key.split(".")[1] not in NOT_DECISIVE
    }
    fixed["sweep"] = asdict(config.sweep)
    names = [getattr(config, section).name for section in ("model", "benchmark") if section not in keys]
    return safe_name("_".join([*names, digest([sorted((a.key, a.over) for a in varied), fixed])[:8]]))


def submit(config: Config, folder: Path, merges: Sequence[Job], verb: str) -> Job:
    """Submit the job that starts when all `merges` have ended, however they ended. Raises ConfigurationError."""
    place = RunDirectory(folder)
    earlier = read_submissions(place)
    node = graph.Node("sweep", [SweepTask(str(folder.resolve()), verb)], [[]], ("afterany", "merge"))
    job = graph.submit_job(config, place, node, merges)
    record(place, [*earlier, Submission([job])])
    return job


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f"{prefix}.{key}")
    else:
        yield prefix, node
