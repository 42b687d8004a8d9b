"""A shard: works through its items, one journal line each, whatever becomes of the simulator."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any, Dict, List, Optional, Set, Tuple

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_json
from vlaeval_hpc.run.job import job_name
from vlaeval_hpc.run.journal import Episode, Journal, read_journal
from vlaeval_hpc.run.lock import Lock
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.result import RETRIED, is_open, settle, shard_result
from vlaeval_hpc.worker.supervisor import Supervisor

WARNING_GRACE = 45.0  # seconds after a time limit's warning in which the episode in flight may end; Slurm gives 90
SICK_AFTER = 3  # failures of a shard's first episodes after which its node is taken for sick
PROGRESS_EVERY = 5.0


class SickNode(InfrastructureError):
    """Nothing works here; somewhere else it may."""

    exit_code = 76


class Interrupted(InfrastructureError):
    """A signal asked the shard to leave; the episode in flight is dropped."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name}: leaving; the episode in flight is dropped, the rest is kept")
        self.exit_code = 128 + number


class Shard:
    """Runs those items of one shard that no journal has finished yet."""

    def __init__(self, run: RunDirectory, shard: int) -> None:
        self._run = run
        self._shard = shard
        self._plan = Plan.load(run.plan)
        self._items = self._plan.assigned(shard)
        self._files = run.shard(self._plan.name, shard, self._plan.shards)
        self._supervisor = Supervisor(run.root, shard, self._plan.benchmark["hang_timeout"], self._tick)
        self._records: Dict[Tuple[str, int], List[Episode]] = {}
        self._settled: Dict[Tuple[str, int], Episode] = {}
        self._finished: Set[Tuple[str, int]] = set()
        self._current: Optional[Item] = None
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
        with Lock(self._files.lock):
            self._read_journals()
            journal = Journal(self._files.journal)
            try:
                self._run_open(journal)
            finally:
                journal.close()
                self._supervisor.end()
            episodes = [self._settled[i.key] for i in self._items]
            result = shard_result(self._plan, self._shard, episodes, self._supervisor.server_info)
            write_json(self._files.result, result)
            self._files.progress.unlink(missing_ok=True)

    def _run_open(self, journal: Journal) -> None:
        self._write_progress("starting")
        failed = count = 0
        # What failed for reasons that may be the machine's is tried again after the rest, ATTEMPTS times in all.
        while todo := [i for i in self._items if i.key not in self._finished]:
            for item in todo:
                if self._signal:
                    raise Interrupted(self._signal)
                self._began = self._began or time.time()
                episode = self._run_item(item)
                journal.append(episode)
                self._note(episode)
                self._ran += 1
                self._say(item, episode)
                self._write_progress("running")
                count += 1
                failed += episode.get("failure_reason") in RETRIED
                if count == failed == SICK_AFTER:
                    raise SickNode(
                        f"shard {self._shard}: its first {SICK_AFTER} episodes all failed"
                        f" ({episode['failure_reason']}): {socket.gethostname()} looks sick; see {self._files.journal}"
                    )

    def _run_item(self, item: Item) -> Episode:
        self._current, started = item, time.time()
        return {
            "run": self._plan.run,
            "task": item.task,
            "episode_id": item.episode,
            "seed": item.seed,
            **self._supervisor.ask(item),
            "started_at": round(started, 3),
            "finished_at": round(time.time(), 3),
            "host": socket.gethostname(),
            "shard": self._shard,
        }

    def _read_journals(self) -> None:
        """What this shard, or shards of another split, have run. Others of this split never run its items."""
        mine = {i.key for i in self._items}
        same_split = f"of{self._plan.shards}.jsonl"
        for path in self._run.journals():
            if path == self._files.journal or not path.name.endswith(same_split):
                found = read_journal(path, self._plan.run)
                for problem in found.problems:
                    print(f"warning: {problem}", flush=True)
                for episode in found.episodes:
                    if (episode["task"], episode["episode_id"]) in mine:
                        self._note(episode)

    def _note(self, episode: Episode) -> None:
        key = (episode["task"], episode["episode_id"])
        self._records.setdefault(key, []).append(episode)
        self._settled[key] = settle(self._records[key])[key]
        if not is_open(self._settled[key]):
            self._finished.add(key)

    def _on_signal(self, number: int, _: Any) -> None:
        # A time limit's warning leaves time to end an episode; after any other signal comes SIGKILL, soon.
        grace = WARNING_GRACE if number == signal.SIGUSR2 else 0.0
        leave_at = time.monotonic() + grace
        if not self._signal or leave_at < self._leave_at:
            self._signal, self._leave_at = number, leave_at

    def _tick(self, phase: str) -> None:
        # An episode that waits for a server is not in flight, and may wait for long.
        if self._signal and (time.monotonic() >= self._leave_at or phase in ("starting", "server")):
            raise Interrupted(self._signal)
        if time.monotonic() - self._progress_at > PROGRESS_EVERY:
            self._write_progress(phase)

    def _write_progress(self, phase: str) -> None:
        """vla-eval's three counts, and what a person who looks at a slow shard asks next."""
        self._progress_at = time.monotonic()
        progress = {
            "completed": len(self._finished),
            "total": len(self._items),
            "errors": sum(1 for e in self._settled.values() if e.get("failure_reason")),
            "ran": self._ran,
            "began_at": round(self._began, 3),
            "phase": phase,
            "task": self._current.task if self._current else None,
            "episode": self._current.episode if self._current else None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": job_name(),
            "updated_at": round(time.time(), 3),
        }
        try:
            write_json(self._files.progress, progress, indent=None)
        except InfrastructureError as error:
            print(f"warning: {error}", flush=True)  # a sign of life is not worth an episode

    def _say(self, item: Item, episode: Episode) -> None:
        outcome = episode.get("failure_reason") or ", ".join(f"{k}={v}" for k, v in episode["metrics"].items())
        done = f"{len(self._finished)}/{len(self._items)}"
        line = f"[{done}] {item.task} episode {item.episode}: {outcome} (steps={episode['steps']})"
        detail = episode.get("failure_detail", "").strip().splitlines()
        print(f"{line}: {detail[-1]}" if detail else line, flush=True)
