"""Which items a shard runs: those that it has from the beginning, or leases that it takes when it is free."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run.chunks import Table
from vlaeval_hpc.run.coverage import open_items
from vlaeval_hpc.run.directory import RunDirectory, ShardFiles
from vlaeval_hpc.run.job import node_name
from vlaeval_hpc.run.journal import Episode, read_journal
from vlaeval_hpc.run.leases import SILENT_BEATS, Account, Lease, Leases, Owner
from vlaeval_hpc.run.lock import Lock, is_gone
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.result import RETRIED, is_open, settle
from vlaeval_hpc.run.store import Store

STANDBY = 90.0  # seconds that a shard without work stays while others have some: one of them may die
STANDBY_SHARDS = 50  # of a large run; the others leave
PAUSE, LONGEST_PAUSE = 2.0, 20.0  # seconds between two looks for work
OF_LOCK = "/"  # an owner is a lock's nonce and the number of a simulator of the shard that holds it


class Records:
    """What a shard has in its journal: the standing record of each episode."""

    def __init__(self) -> None:
        self._records: Dict[Tuple[str, int], List[Episode]] = {}
        self._settled: Dict[Tuple[str, int], Episode] = {}

    def note(self, episode: Episode) -> None:
        """An episode is in the journal."""
        key = (episode["task"], episode["episode_id"])
        self._records.setdefault(key, []).append(episode)
        self._settled[key] = settle(self._records[key])[key]

    @property
    def completed(self) -> int:
        """Episodes that need no further try."""
        return sum(1 for e in self._settled.values() if not is_open(e))

    @property
    def errors(self) -> int:
        """Episodes whose standing record is a failure."""
        return sum(1 for e in self._settled.values() if e.get("failure_reason"))

    def settled(self, items: Iterable[Item]) -> List[Episode]:
        """The standing records of those of `items` that have one, in their order."""
        return [self._settled[item.key] for item in items if item.key in self._settled]


class StaticWork(Records):
    """The items of a static shard that no journal has finished; what failed is tried again after the rest."""

    def __init__(self, run: RunDirectory, plan: Plan, shard: int, files: ShardFiles) -> None:
        super().__init__()
        self._given: Set[Tuple[str, int]] = set()
        self._items = plan.assigned(shard)
        mine = {i.key for i in self._items}
        same_split = f"of{plan.shards}.jsonl"
        for path in run.journals():
            # Others of this split never run these items.
            if path == files.journal or not path.name.endswith(same_split):
                for episode in _read(path, plan.run):
                    if (episode["task"], episode["episode_id"]) in mine:
                        self.note(episode)
        self._turn: List[Item] = []

    @property
    def total(self) -> int:
        return len(self._items)

    def next(self, simulator: int) -> Optional[Item]:
        """An item for one of the shard's simulators; None where there is none now."""
        if not self._turn:
            rest = [i for i in self._items if i.key not in self._given]
            self._turn = [i for i in rest if i.key not in self._settled or is_open(self._settled[i.key])]
        if not self._turn:
            return None
        self._given.add(self._turn[0].key)
        return self._turn.pop(0)

    def pause(self) -> Optional[float]:
        """Seconds after which to ask again, nothing being in flight; None: nobody needs us any more."""
        return None

    def note(self, episode: Episode) -> None:
        """An episode is in the journal."""
        super().note(episode)
        self._given.discard((episode["task"], episode["episode_id"]))


class ElasticWork(Records):
    """Leases, one after the other for each of the shard's simulators, which know of each other as shards do."""

    def __init__(self, run: RunDirectory, plan: Plan, shard: int, files: ShardFiles, lock: Lock) -> None:
        super().__init__()
        self._run = run
        self._plan = plan
        self._files = files
        self._standby = shard < STANDBY_SHARDS
        self._index = {item.key: n for n, item in enumerate(plan.items)}
        self._mine = Account(set(), {})
        for episode in _read(files.journal, plan.run):
            self.note(episode)
        folder = f"leases/{plan.leases}"
        table = Table.load(run.root / folder / "table.json")
        self._silence = table.heartbeat * SILENT_BEATS
        self._store = Store(run.root, files.lock)
        self._leases = [
            Leases(
                self._store,
                folder,
                table,
                Owner(files.stem, f"{lock.nonce}{OF_LOCK}{simulator}", node_name()),
                shard + simulator * plan.shards,
                self._lives,
                self._account,
                self._missing,
                time.monotonic,
            )
            for simulator in range(plan.simulators)
        ]
        self._held: List[Optional[Lease]] = [None] * plan.simulators
        self._worked = False
        self._waited, self._pause = 0.0, PAUSE

    @property
    def total(self) -> int:
        """What this shard has run and has in hand."""
        return len(self._records) + sum(len(lease.items) for lease in self._held if lease)

    def next(self, simulator: int) -> Optional[Item]:
        """An item for one of the shard's simulators; None where there is none now."""
        leases = self._leases[simulator]
        while True:
            lease = self._held[simulator]
            if lease is not None:
                index = leases.next(lease)
                if index is not None:
                    self._worked, self._waited, self._pause = True, 0.0, PAUSE
                    return self._plan.items[index]
            self._held[simulator] = leases.take()
            if self._held[simulator] is None:
                return None

    def pause(self) -> Optional[float]:
        """Seconds after which to ask again, nothing being in flight; None: nobody needs us any more."""
        if self._leases[0].finished or not self._worked or not self._standby or self._waited >= STANDBY:
            return None
        pause = self._pause
        self._waited += pause
        self._pause = min(LONGEST_PAUSE, pause * 1.5)
        return pause

    def note(self, episode: Episode) -> None:
        """An episode is in the journal."""
        super().note(episode)
        key = (episode["task"], episode["episode_id"])
        if key in self._index:
            _enter(self._mine, self._index[key], episode)

    def _lives(self, owner: Owner) -> bool:
        name = f"shards/{owner.shard}.lock"
        try:
            held: Dict[str, Any] = json.loads(self._store.read(name) or "{}")
            if held.get("nonce") != owner.nonce.partition(OF_LOCK)[0] or is_gone(held):
                return False
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        age = self._store.age(name)
        return age is not None and age < self._silence

    def _account(self, shard: str) -> Account:
        if shard == self._files.stem:
            return self._mine
        account = Account(set(), {})
        for episode in read_journal(self._run.shards / f"{shard}.jsonl", self._plan.run).episodes:
            key = (episode["task"], episode["episode_id"])
            if key in self._index:
                _enter(account, self._index[key], episode)
        return account

    def _missing(self) -> List[int]:
        return open_items(self._run, self._plan)


def _enter(account: Account, index: int, episode: Episode) -> None:
    finished: Set[int] = account.finished
    if episode.get("failure_reason") in RETRIED:
        account.failed.setdefault(index, []).append(str(episode.get("host")))
    else:
        finished.add(index)


def _read(path: Any, run: str) -> List[Episode]:
    found = read_journal(path, run)
    for problem in found.problems:
        print(f"warning: {problem}", flush=True)
    return found.episodes


def patiently(action: Callable[[], Any], limit: float, wait: Callable[[float], None]) -> Any:
    """What `action` gives, again for `limit` seconds while the file system refuses: a disk may be full for a while.

    Raises InfrastructureError, the last one.
    """
    deadline = time.monotonic() + limit
    pause = 1.0
    while True:
        try:
            return action()
        except InfrastructureError as error:
            if type(error) is not InfrastructureError or time.monotonic() + pause > deadline:
                raise  # the narrower kinds, as to be asked to leave, are not the file system's
            print(f"warning: {error}: again in {pause:.0f} s", flush=True)
        wait(pause)
        pause = min(30.0, pause * 2)
