"""Elastic shards: who runs which items, agreed on by the exclusive creation of small files and by nothing else.

A chunk's state is a chain of records, `<task>/<chunk>.0`, `.1`, ...: each says anew who runs which of the chunk's items
that are left. To change anything is to create the next record, which only one can: to take a chunk, to take over what a
dead shard left, to halve what a slow one still holds, to give back what failed here. `<chunk>.done` ends a chain. No
record is ever changed, renamed or removed, so that it does not matter when a reader sees it: who acts on an old record
fails to create the next, and who runs an item that another has taken over runs it twice, with the same outcome.
"""

from __future__ import annotations

import json
import random
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from vlaeval_hpc.run.chunks import Table
from vlaeval_hpc.run.result import may_try_again
from vlaeval_hpc.run.store import Store

WATCH = 2.0  # of the chunks held by others, that one in so many is looked at whenever a free one is taken
TRIES = 4  # free chunks that are tried before one gives up a task for now
LATE = 1.0  # free items for each shard at work on a task below which another one comes too late to help
ELSEWHERE = 30.0  # seconds that an item that failed on this node is left to the others
LOOK_EVERY = 2  # heartbeats between two looks whether others have taken from what we hold
SILENT_BEATS = 4  # heartbeats missed after which a shard's items are taken over; wrongly costs an episode, no more

Tried = Dict[str, List[str]]
"""An item's failed attempts: by shard, the node of each."""


class Owner(NamedTuple):
    """A shard's process: the stem of its files, what its lock holds of this start of it, and its node."""

    shard: str
    nonce: str
    node: str


class Part(NamedTuple):
    """What of a chunk one shard runs; nobody where owner is None. `tried`: failed attempts by item."""

    owner: Optional[Owner]
    items: List[int]
    tried: Dict[int, Tried]


class Account(NamedTuple):
    """What a shard's journal tells: items that need no further try, and failed attempts by item, a node for each."""

    finished: Set[int]
    failed: Dict[int, List[str]]


class Address(NamedTuple):
    """A chunk of the table."""

    task: int
    chunk: int


class Lease:
    """A part of a chunk that is ours: the last of `parts`, which are what the record of this generation says. `items`
    are those not begun; `begun` is when each was asked for, and at last when the lease ended."""

    def __init__(self, address: Address, generation: int, parts: List[Part]) -> None:
        self.address = address
        self.generation = generation
        self.parts = parts
        self.items = list(parts[-1].items)
        self.begun: List[float] = []


class Leases:
    """One shard's view of the table of chunks; `folder` is relative to the store's.

    `lives` tells whether an owner's heartbeat is heard, `account` reads the journal of a shard, `missing` finds what no
    journal has finished. `rank` spreads the shards over the tasks. `now` in seconds, any zero.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        table: Table,
        me: Owner,
        rank: int,
        lives: Callable[[Owner], bool],
        account: Callable[[str], Account],
        missing: Callable[[], List[int]],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._folder = folder
        self._chunks = table.tasks
        self._rest = len(table.tasks)  # a task of one chunk: whatever is missing when all chunks are done
        self._me = me
        self._rank = rank
        self._lives = lives
        self._account = account
        self._missing = missing
        self._now = now
        self._random = random.Random(f"{me.shard} {me.nonce}")
        self._heartbeat = table.heartbeat
        # In a search for work, how many tasks and chunks of others are looked at: many, where shards are few.
        self._breadth = max(1, min(8, round(20 / table.heartbeat)))
        self._looked = 0.0
        self._loaded: Optional[int] = None
        self._full: Set[int] = set()
        self._done: Set[int] = set()
        self._paces: Dict[int, float] = {}
        self._listed: Dict[int, Tuple[Dict[int, int], Set[int]]] = {}  # in this search for work
        self._heard: Dict[Owner, Tuple[float, bool]] = {}
        self._accounts: Dict[str, Tuple[float, Account]] = {}
        self._declined: Dict[Address, float] = {}
        self._nodes: Set[str] = set()

    @property
    def finished(self) -> bool:
        """Whether every item was found to be finished."""
        return self._store.read(self._path("finished")) is not None

    def take(self) -> Optional[Lease]:
        """A lease, of the task of the one before where there is work; None where nobody needs us now.

        First free chunks, the longest first; then what dead, failed or slow shards have left of theirs.
        """
        self._listed.clear()
        lease = self._take()
        if lease is not None and lease.address.task != self._rest:
            self._loaded = lease.address.task
        return lease

    def next(self, lease: Lease) -> Optional[int]:
        """The next item of a lease to run; None where it is at its end, and closed."""
        # In a large run not before every item: a few that are then run twice cost less than the looks.
        often = self._breadth > 1 or self._now() - self._looked > LOOK_EVERY * self._heartbeat
        if lease.items and often:
            self._looked = self._now()
            self._follow(lease)
        lease.begun.append(self._now())
        if lease.items:
            return lease.items.pop(0)
        self._close(lease)
        return None

    # ---- taking

    def _take(self) -> Optional[Lease]:
        tasks = range(len(self._chunks))
        if self._loaded is not None and self._loaded not in self._full:
            lease = self._take_free(self._loaded)
            if lease is not None:
                return lease
        self._look_at_tasks()
        for task in self._neediest(t for t in tasks if t not in self._full):
            lease = self._take_free(task)
            if lease is not None:
                return lease
        self._nodes = set()
        for task in self._in_order(t for t in tasks if t not in self._done)[: self._breadth]:
            lease = self._take_over(task)
            if lease is not None:
                return lease
        return self._take_rest() if len(self._done) == len(tasks) else None

    def _neediest(self, tasks: Iterable[int]) -> List[int]:
        """Tasks with free chunks, those first that have the most work for each shard at it, we among them; not those
        whose own shards will have begun the last item before we had loaded the simulator."""
        home = self._rank % max(len(self._chunks), 1)
        share: Dict[int, float] = {}
        for task in self._in_order(tasks)[: max(3, self._breadth)]:
            latest, done = self._listing(task)
            chunks = self._chunks[task]
            free = sum(len(chunk) for c, chunk in enumerate(chunks) if c not in latest and c not in done)
            at_work = len(set(latest) - done)
            if free > at_work * LATE:
                share[task] = free / (1 + at_work) * self._pace_of(task, done)
            elif not free:
                self._mark_full(task)
        return sorted(share, key=lambda task: (-share[task], (task - home) % len(self._chunks)))

    def _pace_of(self, task: int, done: Set[int]) -> float:
        """Seconds an item of a task takes, as those tell who have ended chunks of it; 1 where nobody has."""
        if task not in self._paces:
            told = []
            for chunk in self._random.sample(sorted(done), min(self._breadth, len(done))):
                try:
                    told.append(float(self._store.read(self._chain(Address(task, chunk), "done")) or ""))
                except ValueError:
                    continue
            if told:
                self._paces[task] = sum(told) / len(told)
        known = list(self._paces.values())
        return self._paces.get(task, sum(known) / len(known) if known else 1.0)

    def _take_free(self, task: int) -> Optional[Lease]:
        """A chunk that nobody has ever had."""
        chunks = self._chunks[task]
        for _ in range(TRIES):
            latest, done = self._listing(task)
            free = [c for c in range(len(chunks)) if c not in latest and c not in done]
            if not free:
                break
            held = [c for c in latest if c not in done]
            if held and self._random.random() < WATCH / len(held):
                # Now and then somebody must look whether others live, or the longest leases are missed only at the end.
                chunk = self._random.choice(held)
                lease = self._take_part(Address(task, chunk), latest[chunk], steal=False)
                if lease is not None:
                    return lease
            longest = [c for c in free if len(chunks[c]) == len(chunks[free[0]])]
            lease = self._create_first(Address(task, self._random.choice(longest)))
            if lease is not None:
                if len(free) == 1:
                    self._mark_full(task)
                return lease
            self._listed.pop(task)  # it has changed
        else:
            return None  # others are quicker; there may still be some
        self._mark_full(task)
        return None

    def _create_first(self, address: Address) -> Optional[Lease]:
        return self._create(address, 0, [Part(self._me, self._items(address), {})])

    def _take_over(self, task: int) -> Optional[Lease]:
        """Items of chunks that others hold or held: dead ones', failed ones, half of what a slow one has left."""
        latest, done = self._listing(task)
        if len(done) == len(self._chunks[task]):
            self._store.create(self._path(f"{task}.done"))
            self._done.add(task)
            return None
        left = sorted(c for c in latest if c not in done)
        for chunk in self._random.sample(left, min(self._breadth, len(left))):
            lease = self._take_part(Address(task, chunk), latest[chunk])
            if lease is not None:
                return lease
        return None

    def _take_rest(self) -> Optional[Lease]:
        """The last look: what no journal has finished although its chunk is done, by a journal that was damaged."""
        if self.finished:
            return None
        address = Address(self._rest, 0)
        found = self._read(address, self._listing(self._rest)[0].get(0, -1))
        if found is None:
            return None
        generation, parts = found
        if any(self._left(part)[0] for part in parts):
            return self._take_part(address, generation)
        if any(part.owner is not None and not part.items and self._is_other(part.owner) for part in parts):
            return None  # he looks what is missing, and has not told yet
        if not self._write(address, generation + 1, [Part(self._me, [], {})]):
            return None
        missing = self._missing()
        if missing:
            return self._create(address, generation + 2, [Part(self._me, missing, {})])
        self._store.create(self._path("finished"))
        return None

    def _take_part(self, address: Address, generation: int, steal: bool = True) -> Optional[Lease]:
        """What nobody who lives holds of a chunk; `steal`: and half of what somebody has left."""
        found = self._read(address, generation)
        if found is None:
            return None
        generation, parts = found
        kept: List[Part] = []
        mine: List[int] = []
        tried: Dict[int, Tried] = {}
        for part in parts:
            left, failed = self._left(part)
            owner = part.owner
            if not left:
                continue
            if owner is not None and self._is_other(owner):
                self._nodes.add(owner.node)
                stolen = [] if mine or not steal else left[len(left) - len(left) // 2 :]
            else:
                owner = None
                stolen = [i for i in left if not self._leave_to_others(address, failed.get(i, {}), steal)]
            rest = [i for i in left if i not in stolen]
            if rest:
                kept.append(Part(owner, rest, {i: failed[i] for i in rest if i in failed}))
            mine += stolen
            tried.update({i: failed[i] for i in stolen if i in failed})
        if not mine:
            if not kept:
                self._end(address)
            return None
        return self._create(address, generation + 1, [*kept, Part(self._me, mine, tried)])

    def _is_other(self, owner: Owner) -> bool:
        """Whether an owner is another process than we, that lives."""
        asked, heard = self._heard.get(owner, (0.0, False))
        if owner.nonce == self._me.nonce:
            return False
        if owner not in self._heard or self._now() - asked > self._heartbeat:
            heard = self._lives(owner)
            self._heard[owner] = self._now(), heard
        return heard

    def _account_of(self, shard: str) -> Account:
        if shard == self._me.shard:
            return self._account(shard)
        read, account = self._accounts.get(shard, (0.0, None))
        if account is None or self._now() - read > self._heartbeat:
            account = self._account(shard)
            self._accounts[shard] = self._now(), account
        return account

    def _leave_to_others(self, address: Address, tried: Tried, last: bool) -> bool:
        """Whether an item failed on this node: others may have it for a while, or as long as there is more to do."""
        if not any(self._me.node in nodes for nodes in tried.values()):
            return False
        if not last:
            return True
        if not self._nodes - {self._me.node}:
            return False
        return self._now() - self._declined.setdefault(address, self._now()) < ELSEWHERE

    # ---- holding

    def _follow(self, lease: Lease) -> None:
        """See whether others have taken from what we hold."""
        found = self._newest(lease)
        if found is not None and found[0] != lease.generation:
            lease.generation, lease.parts = found
            ours = [i for p in lease.parts if p.owner == self._me for i in p.items]
            lease.items = [i for i in lease.items if i in ours]

    def _close(self, lease: Lease) -> None:
        """Tell that all our items of the chunk are finished, or give back those that failed and may be tried again."""
        generation = -1
        while True:
            found = self._newest(lease)
            if found is None or found[0] == generation:
                return  # the newest is not to be seen yet: what of it is ours, we may take again as nobody's
            generation, parts = found
            rest: List[Part] = []
            for part in parts:
                left, failed = self._left(part)
                if part.owner == self._me:
                    if left:
                        rest.append(Part(None, left, failed))
                else:
                    rest.append(part)
            if not rest:
                # The last ones: the first may have waited for a simulator or a server.
                times = lease.begun[-3:]
                self._end(lease.address, (times[-1] - times[0]) / max(len(times) - 1, 1))
                return
            if rest == parts or self._write(lease.address, generation + 1, rest):
                return

    def _end(self, address: Address, pace: Optional[float] = None) -> None:
        if address.task != self._rest:  # the rest is looked for once more
            self._store.create(self._chain(address, "done"), f"{pace:.2f}" if pace else "")

    def _left(self, part: Part) -> Tuple[List[int], Dict[int, Tried]]:
        """The items of a part that need a try, in order, and the failed attempts of each."""
        accounts = {self._me.shard: self._account_of(self._me.shard)}
        if part.owner is not None:
            accounts.setdefault(part.owner.shard, self._account_of(part.owner.shard))
        left, failed = [], {}
        for item in part.items:
            tried = dict(part.tried.get(item, {}))
            for shard, account in accounts.items():
                nodes = account.failed.get(item, [])
                if len(nodes) > len(tried.get(shard, [])):
                    tried[shard] = nodes
            finished = any(item in account.finished for account in accounts.values())
            if not finished and may_try_again(sum(map(len, tried.values()))):
                left.append(item)
                if tried:
                    failed[item] = tried
        return left, failed

    # ---- records

    def _read(self, address: Address, generation: int) -> Optional[Tuple[int, List[Part]]]:
        """The record of a generation, or of the one before where its writer died while it wrote; None: not readable."""
        torn_after = self._heartbeat * SILENT_BEATS
        asked = generation
        while generation >= 0:
            parts = _parsed(self._store.read(self._chain(address, str(generation))))
            if parts is not None:
                return asked, parts
            age = self._store.age(self._chain(address, str(generation)))
            if age is None or age < torn_after:
                return None
            generation -= 1
        return asked, [Part(None, self._items(address), {})]

    def _newest(self, lease: Lease) -> Optional[Tuple[int, List[Part]]]:
        """The newest record of a lease's chunk; None where it cannot be read for now."""
        generation = lease.generation
        while self._store.read(self._chain(lease.address, str(generation + 1))) is not None:
            generation += 1
        return (generation, lease.parts) if generation == lease.generation else self._read(lease.address, generation)

    def _create(self, address: Address, generation: int, parts: List[Part]) -> Optional[Lease]:
        if not self._write(address, generation, parts):
            return None
        self._looked = self._now()
        return Lease(address, generation, parts)

    def _write(self, address: Address, generation: int, parts: Sequence[Part]) -> bool:
        record = [{"owner": p.owner and p.owner._asdict(), "items": p.items, "tried": p.tried} for p in parts]
        return self._store.create(self._chain(address, str(generation)), json.dumps(record) + "\n")

    def _items(self, address: Address) -> List[int]:
        return [] if address.task == self._rest else list(self._chunks[address.task][address.chunk])

    def _listing(self, task: int) -> Tuple[Dict[int, int], Set[int]]:
        """The newest generation of each chunk of a task that was ever taken, and the chunks that are done."""
        if task in self._listed:
            return self._listed[task]
        latest: Dict[int, int] = {}
        done: Set[int] = set()
        for name in self._store.names(self._place(task)):
            chunk, _, state = name.partition(".")
            if state == "done":
                done.add(int(chunk))
            elif chunk.isdigit() and state.isdigit():
                latest[int(chunk)] = max(int(state), latest.get(int(chunk), 0))
        self._listed[task] = latest, done
        return latest, done

    def _look_at_tasks(self) -> None:
        for name in self._store.names(self._folder):
            task, _, state = name.partition(".")
            if task.isdigit() and state in ("full", "done"):
                (self._full if state == "full" else self._done).add(int(task))

    def _mark_full(self, task: int) -> None:
        self._store.create(self._path(f"{task}.full"))
        self._full.add(task)

    def _in_order(self, tasks: Iterable[int]) -> List[int]:
        """The loaded one first, where it is among them; the others in an order of our own."""
        found = list(tasks)
        self._random.shuffle(found)
        return sorted(found, key=lambda task: task != self._loaded)

    def _place(self, task: int) -> str:
        return self._path("rest" if task == self._rest else str(task))

    def _chain(self, address: Address, state: str) -> str:
        return f"{self._place(address.task)}/{address.chunk}.{state}"

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _parsed(text: Optional[str]) -> Optional[List[Part]]:
    try:
        raw: List[Dict[str, Any]] = json.loads(text or "")
        return [
            Part(
                Owner(**p["owner"]) if p["owner"] else None,
                [int(i) for i in p["items"]],
                {int(i): {str(s): list(n) for s, n in tried.items()} for i, tried in p["tried"].items()},
            )
            for p in raw
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
