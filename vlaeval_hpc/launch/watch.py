"""What a shard's job knows of the server's: whether one will come, and how to ask for it again."""

from __future__ import annotations

import json
import time

from vlaeval_hpc.config.composition import from_yaml
from vlaeval_hpc.errors import InfrastructureError, VlaevalError
from vlaeval_hpc.launch import slurm
from vlaeval_hpc.launch.decisions import decide
from vlaeval_hpc.launch.jobs import read_submissions
from vlaeval_hpc.run.clock import age
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_json
from vlaeval_hpc.run.lock import Lock

ASK_EVERY = 60.0  # seconds between two questions to Slurm, of all shards of a run together
SILENT = 30.0  # seconds without a server's heartbeat after which Slurm is asked about its job


class ServerWatch:
    """Tells the shards of a run when no server will come any more.

    As long as a server's heartbeat is seen Slurm is not asked. One answer serves all shards: it is kept in a file. A
    server that left because no shard came while the shards were queued is submitted again.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._answer = run.server / "jobs-asked.json"
        # One that left for want of shards is asked for at once.
        self._next = time.monotonic() + (2.0 if run.idle.exists() else SILENT)

    def look(self) -> None:
        """Look once a while; make the stop marker where every server job has ended and none can be had."""
        if time.monotonic() < self._next or self._run.stop.exists():
            return
        self._next = time.monotonic() + SILENT
        try:
            self._look()
        except OSError as error:  # the file system refuses for a while
            print(f"warning: {error}", flush=True)

    def _look(self) -> None:
        jobs = self._jobs()
        if not jobs or self._heard_lately() or not self._all_gone(jobs):
            return
        if self._run.idle.exists() and self._submit_again(jobs, "it had left for want of shards"):
            return
        print("the server's jobs have ended: no server will come", flush=True)
        self._run.stop.touch()

    def _jobs(self) -> list[str]:
        return [task for s in read_submissions(self._run)[-1:] for task, _ in s.tasks("server")]

    def _heard_lately(self) -> bool:
        for path in self._run.server.glob("rendezvous-*.json"):
            try:
                silent = age(path)
            except FileNotFoundError:
                continue
            if silent is None or silent < SILENT:
                return True
        return False

    def _all_gone(self, jobs: list[str]) -> bool:
        try:
            answer = json.loads(self._answer.read_text())
            if answer["jobs"] == jobs and (age(self._answer) or 0.0) < ASK_EVERY:
                return not answer["states"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        try:
            states = slurm.states(jobs)
            if states and set(states.values()) == {"PENDING"}:
                held = slurm.not_started(jobs)
                if set(held) == set(states) and self._submit_again(jobs, f"no node has started {', '.join(held)}"):
                    return False
        except InfrastructureError as error:
            print(f"warning: {error}: waiting", flush=True)
            return False
        try:
            write_json(self._answer, {"jobs": jobs, "states": states}, mode=0o600)
        except InfrastructureError as error:
            print(f"warning: {error}", flush=True)  # the others ask themselves
        return not states

    def _submit_again(self, jobs: list[str], why: str) -> bool:
        """Whether a server job is on its way, ours or another shard's; False where Slurm refuses."""
        from vlaeval_hpc.launch import graph  # which knows the tasks, and they this

        try:
            with Lock(self._run.server / "submit.lock"):
                if self._jobs() == jobs:
                    slurm.cancel(jobs)
                    submitted = graph.submit_server(from_yaml(self._run.config), self._run)
                    self._run.idle.unlink(missing_ok=True)
                    print(f"the server is submitted again as {submitted.id}: {why}", flush=True)
                    decide(self._run, f"the server is submitted again as {submitted.id}", why)
        except InfrastructureError:
            pass  # another shard is at it, or a file system or Slurm is away for a while: we look again
        except VlaevalError as error:
            print(f"error: the server cannot be submitted again: {error}", flush=True)
            return False
        return True
