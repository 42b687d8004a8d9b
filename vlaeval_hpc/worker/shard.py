"""A shard: works through its items, one journal line each, whatever becomes of the simulator."""

from __future__ import annotations

import os
import select
import signal
import time
from functools import partial
from typing import Any, Callable, Dict, NamedTuple, Optional, Union

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run.chunks import heartbeat_of
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import FILES_AWAY, write_json
from vlaeval_hpc.run.job import job_name, node_name
from vlaeval_hpc.run.journal import Episode, Journal
from vlaeval_hpc.run.lock import HEARTBEAT, Lock
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.result import RETRIED, shard_result
from vlaeval_hpc.worker.supervisor import Supervisor
from vlaeval_hpc.worker.work import LONGEST_PAUSE, ElasticWork, StaticWork, patiently

WARNING_GRACE = 45.0  # seconds after a time limit's warning in which the episode in flight may end; Slurm gives 90
SICK_AFTER = 3  # failures of a shard's first episodes after which its node is taken for sick
PROGRESS_EVERY = 5.0
PROGRESS_FILES_A_SECOND = 10.0  # of all shards together


class SickNode(InfrastructureError):
    """Nothing works here; somewhere else it may."""

    exit_code = 76


class Interrupted(InfrastructureError):
    """A signal asked the shard to leave; the episode in flight is dropped."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name}: leaving; the episode in flight is dropped, the rest is kept")
        self.exit_code = 128 + number


class Running(NamedTuple):
    """An episode in flight, and when it was asked for."""

    item: Item
    since: float


class Shard:
    """Runs those items of one shard that no journal has finished yet, or leases of an elastic run."""

    def __init__(self, run: RunDirectory, shard: int) -> None:
        self._run = run
        self._shard = shard
        self._plan = Plan.load(run.plan)
        self._files = run.shard(self._plan.name, shard, self._plan.shards)
        # Each simulator has a number of its own in the run, as if it were of a further shard.
        self._simulators = [
            Supervisor(run.root, shard + n * self._plan.shards, self._plan.benchmark["hang_timeout"])
            for n in range(self._plan.simulators)
        ]
        self._running: Dict[int, Running] = {}
        self._progress_every = max(PROGRESS_EVERY, self._plan.shards / PROGRESS_FILES_A_SECOND)
        self._progress_at = 0.0
        self._began = 0.0
        self._ran = 0
        self._signal = 0
        self._leave_at = 0.0

    def work(self) -> None:
        """Run what is open, then write the shard's file.

        Raises ConfigurationError, or InfrastructureError where open items are left for another time.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._on_signal)
        elastic = self._plan.sharding == "elastic"
        if elastic and self._run.all_finished(self._plan.leases).exists():
            print("nothing to do: every item is finished", flush=True)
            return
        heartbeat = heartbeat_of(self._plan.shards) if elastic else HEARTBEAT
        with Lock(self._files.lock, heartbeat) as lock:
            if elastic:
                self._work: Union[StaticWork, ElasticWork] = ElasticWork(
                    self._run, self._plan, self._shard, self._files, lock
                )
            else:
                self._work = StaticWork(self._run, self._plan, self._shard, self._files)
            journal = Journal(self._files.journal)
            try:
                self._run_open(journal)
            finally:
                journal.close()
                for simulator in self._simulators:
                    simulator.end()
            info = next((s.server_info for s in self._simulators if s.server_info), {})
            result = shard_result(self._plan, self._shard, self._work.settled(self._plan.items), info)
            self._patiently(lambda: write_json(self._files.result, result))
            self._files.progress.unlink(missing_ok=True)

    def _run_open(self, journal: Journal) -> None:
        self._write_progress("starting")
        failed = count = 0
        while self._give():
            episode = self._ended()
            if episode is None:
                continue
            self._patiently(partial(journal.append, episode))
            self._work.note(episode)
            self._ran += 1
            self._say(episode)
            self._write_progress("running", soon=self._progress_every <= PROGRESS_EVERY)
            count += 1
            failed += episode.get("failure_reason") in RETRIED
            if count == failed == SICK_AFTER:
                self._leave_sick_node(episode)

    def _give(self) -> bool:
        """An item for each simulator that has none, as far as there are some; False where nobody needs us any more.

        Raises Interrupted where we were asked to leave and nothing is in flight.
        """
        while True:
            for number, simulator in enumerate(self._simulators):
                if number in self._running or (self._signal and self._running):
                    continue
                item: Optional[Item] = self._patiently(partial(self._work.next, number))
                if item is None:
                    continue
                if self._signal:
                    raise Interrupted(self._signal)
                self._began = self._began or time.time()
                self._running[number] = Running(item, time.time())
                simulator.begin(item)
            if self._running:
                return True
            pause = self._work.pause()
            if pause is None:
                return False
            self._wait(pause)

    def _ended(self) -> Optional[Episode]:
        """An episode that has ended, once there is one; None after a while, in which there may be new work."""
        until = time.monotonic() + LONGEST_PAUSE
        while time.monotonic() < until:
            self._tick()
            select.select([self._simulators[n] for n in self._running], [], [], 1.0)
            for number, running in self._running.items():
                # One by one, each into the journal: the next may be somebody's last word.
                record = self._simulators[number].look()
                if record is not None:
                    del self._running[number]
                    return self._record(running, record)
        return None

    def _record(self, running: Running, record: Dict[str, Any]) -> Episode:
        return {
            "run": self._plan.run,
            "task": running.item.task,
            "episode_id": running.item.episode,
            "seed": running.item.seed,
            **record,
            "started_at": round(running.since, 3),
            "finished_at": round(time.time(), 3),
            "host": node_name(),
            "shard": self._shard,
        }

    def _leave_sick_node(self, episode: Episode) -> None:
        sign = {"node": node_name(), "why": episode["failure_reason"], "job": job_name(), "at": time.time()}
        self._patiently(partial(write_json, self._files.sick, sign))
        raise SickNode(
            f"shard {self._shard}: its first {SICK_AFTER} episodes all failed"
            f" ({episode['failure_reason']}): {node_name()} looks sick; see {self._files.journal}"
        )

    def _patiently(self, action: Callable[[], Any]) -> Any:
        return patiently(action, FILES_AWAY, self._wait)

    def _wait(self, seconds: float) -> None:
        """Wait, but leave when we are asked to."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._signal:
                raise Interrupted(self._signal)
            time.sleep(min(0.5, seconds))

    def _on_signal(self, number: int, _: Any) -> None:
        # A time limit's warning leaves time to end an episode; after any other signal comes SIGKILL, soon.
        grace = WARNING_GRACE if number == signal.SIGUSR2 else 0.0
        leave_at = time.monotonic() + grace
        if not self._signal or leave_at < self._leave_at:
            self._signal, self._leave_at = number, leave_at

    def _tick(self) -> None:
        phases = [self._simulators[n].phase for n in self._running]
        # An episode that waits for a server is not in flight, and may wait for long.
        idle = all(phase in ("starting", "server") for phase in phases)
        if self._signal and (time.monotonic() >= self._leave_at or idle):
            raise Interrupted(self._signal)
        self._write_progress(phases[0], soon=False)

    def _write_progress(self, phase: str, soon: bool = True) -> None:
        """vla-eval's three counts, and what a person who looks at a slow shard asks next; not often, unless `soon`."""
        if not soon and time.monotonic() - self._progress_at < self._progress_every:
            return
        self._progress_at = time.monotonic()
        current = next((running.item for running in self._running.values()), None)
        progress = {
            "completed": self._work.completed,
            "total": self._work.total,
            "errors": self._work.errors,
            "ran": self._ran,
            "began_at": round(self._began, 3),
            "phase": phase,
            "task": current.task if current else None,
            "episode": current.episode if current else None,
            "host": node_name(),
            "pid": os.getpid(),
            "job": job_name(),
            "updated_at": round(time.time(), 3),
        }
        try:
            write_json(self._files.progress, progress, indent=None)
        except InfrastructureError as error:
            print(f"warning: {error}", flush=True)  # a sign of life is not worth an episode

    def _say(self, episode: Episode) -> None:
        outcome = episode.get("failure_reason") or ", ".join(f"{k}={v}" for k, v in episode["metrics"].items())
        done = f"{self._work.completed}/{self._work.total}"
        line = f"[{done}] {episode['task']} episode {episode['episode_id']}: {outcome} (steps={episode['steps']})"
        detail = episode.get("failure_detail", "").strip().splitlines()
        print(f"{line}: {detail[-1]}" if detail else line, flush=True)
