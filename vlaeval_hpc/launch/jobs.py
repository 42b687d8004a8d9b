"""jobs.json: every submission of a run, with its jobs' ids and dependencies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import SCHEMA, check_schema, read_json, write_json

KINDS = ("server", "shards", "merge")


@dataclass(frozen=True)
class Job:
    """One sbatch call. `members` are the replicas or shards of each array task, in order; a job that is no array has
    one task. `script` is relative to the run directory."""

    kind: str
    id: str
    members: list[list[int]]
    dependency: str = ""
    script: str = ""

    @property
    def task_ids(self) -> list[str]:
        """What Slurm calls each task."""
        return [self.id] if len(self.members) < 2 else [f"{self.id}_{i}" for i in range(len(self.members))]


@dataclass(frozen=True)
class Submission:
    """The jobs that one command submitted together, in order; `submitted_at` in seconds since the epoch. `tries`: how
    many tries of episodes were left then; `by_merge`: it was the merge of the submission before."""

    jobs: list[Job] = field(default_factory=list)
    submitted_at: float = field(default_factory=time.time)
    tries: int | None = None
    by_merge: bool = False

    def ids(self, *kinds: str) -> list[str]:
        """Ids of the jobs of these kinds, of all where none is given."""
        return [job.id for job in self.jobs if not kinds or job.kind in kinds]

    def tasks(self, kind: str) -> Iterator[tuple[str, list[int]]]:
        """Each task of a kind: its id and its members."""
        for job in self.jobs:
            if job.kind == kind:
                yield from zip(job.task_ids, job.members, strict=True)


def read_submissions(run: RunDirectory) -> list[Submission]:
    """Every submission, the latest last; none where the run was never submitted. Raises ConfigurationError."""
    if not run.jobs.exists():
        return []
    raw = read_json(run.jobs)
    check_schema(run.jobs, raw.get("schema"))
    return [Submission(**{**s, "jobs": [Job(**job) for job in s["jobs"]]}) for s in raw["submissions"]]


def record(run: RunDirectory, submissions: Iterable[Submission]) -> None:
    """Replace jobs.json."""
    write_json(run.jobs, json.loads(json.dumps({"schema": SCHEMA, "submissions": [asdict(s) for s in submissions]})))
