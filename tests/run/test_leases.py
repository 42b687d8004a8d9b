"""The lease protocol on a simulated file system: processes die between any two operations, and see late, as on NFS."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vlaeval_hpc.run.chunks import LONGEST, cut
from vlaeval_hpc.run.leases import ELSEWHERE, SILENT_BEATS, Account, Leases, Owner
from vlaeval_hpc.run.plan import Item
from vlaeval_hpc.run.result import ATTEMPTS

SHARDS = 4
FOLDER = "leases/1"


class Dies(Exception):
    """A process ends here."""


class FileSystem:
    """What everybody has done, in order; time is counted by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.files: dict[str, tuple[float, str]] = {}


class Process:
    """One start of a shard: it runs items, and sees of others' files only what is `lag` seconds old."""

    def __init__(self, world: World, rank: int, start: int) -> None:
        self.world = world
        self.owner = Owner(f"shard{rank}", f"{rank}-{start}", f"node{rank % 3}")
        self.lag = 0.0
        self.operations_left: int | None = None
        self.own: set[str] = set()
        self.beat = world.system.now
        self.alive = self.beating = True
        self.lease: Any = None
        self.leases = Leases(
            self,  # type: ignore[arg-type]
            FOLDER,
            world.table,
            self.owner,
            rank,
            self.lives,
            self.account,
            world.missing,
            lambda: world.system.now,
        )

    # ---- run.store's operations

    def create(self, name: str, text: str = "") -> bool:
        self.operation()
        files = self.world.system.files
        if name in files:
            return False
        files[name] = (self.world.system.now, "")
        self.own.add(name)
        self.operation()  # died between the creation and the content
        files[name] = (self.world.system.now, text)
        return True

    def read(self, name: str) -> str | None:
        self.operation()
        return self.world.system.files[name][1] if self.sees(name) else None

    def names(self, folder: str) -> list[str]:
        self.operation()
        inside = [n for n in self.world.system.files if n.startswith(f"{folder}/") and self.sees(n)]
        return [n[len(folder) + 1 :] for n in inside if "/" not in n[len(folder) + 1 :]]

    def age(self, name: str) -> float | None:
        self.operation()
        return self.world.system.now - self.world.system.files[name][0] if self.sees(name) else None

    def sees(self, name: str) -> bool:
        files = self.world.system.files
        return name in files and (name in self.own or files[name][0] <= self.world.system.now - self.lag)

    def operation(self) -> None:
        if self.operations_left is not None:
            self.operations_left -= 1
            if self.operations_left < 0:
                raise Dies

    # ---- the rest of a shard

    def lives(self, owner: Owner) -> bool:
        other = self.world.running.get(owner.shard)
        if other is None or other.owner != owner:
            return False
        return self.world.system.now - other.beat < self.world.table.heartbeat * SILENT_BEATS + self.lag

    def account(self, shard: str) -> Account:
        account = Account(set(), {})
        for time, item, node in self.world.journals.get(shard, []):
            if shard != self.owner.shard and time > self.world.system.now - self.lag:
                continue
            if node is None:
                account.finished.add(item)
            else:
                account.failed.setdefault(item, []).append(node)
        return account

    def step(self) -> bool:
        """Take a lease, or run an item; False where there is nothing to do."""
        if self.lease is None:
            self.lease = self.leases.take()
            return self.lease is not None
        item = self.leases.next(self.lease)
        if item is None:
            self.lease = None
        else:
            fails = self.owner.node in self.world.bad.get(item, ())
            entry = (self.world.system.now, item, self.owner.node if fails else None)
            self.world.journals.setdefault(self.owner.shard, []).append(entry)
            self.world.runs[item] += 1
        return True


class World:
    """A run: its items, its journals, and the shards that are there."""

    def __init__(self, tasks: int, episodes: int, bad: dict[int, list[str]]) -> None:
        self.items = [Item(f"task-{t}", e, 0) for t in range(tasks) for e in range(episodes)]
        self.table = cut(self.items, range(len(self.items)), SHARDS)
        self.system = FileSystem()
        self.running: dict[str, Process] = {}
        self.journals: dict[str, list[tuple[float, int, str | None]]] = {}
        self.bad = bad
        self.runs: Counter[int] = Counter()
        self.starts = 0

    def start(self, rank: int) -> Process:
        self.starts += 1
        process = Process(self, rank, self.starts)
        self.running[process.owner.shard] = process
        return process

    def missing(self) -> list[int]:
        done = {item for entries in self.journals.values() for _, item, node in entries if node is None}
        failed = Counter(item for entries in self.journals.values() for _, item, node in entries if node is not None)
        return [i for i in range(len(self.items)) if i not in done and failed[i] < ATTEMPTS]

    @property
    def finished(self) -> bool:
        return f"{FOLDER}/finished" in self.system.files


class LeaseProtocol(RuleBasedStateMachine):
    """Whatever happens, shards that are left alone afterwards finish every item."""

    @initialize(
        tasks=st.integers(1, 3),
        episodes=st.integers(1, 9),
        bad=st.dictionaries(st.integers(0, 26), st.lists(st.sampled_from(["node0", "node1", "node2"]), max_size=3)),
    )
    def begin(self, tasks: int, episodes: int, bad: dict[int, list[str]]) -> None:
        self.world = World(tasks, episodes, bad)
        self.paused: list[Process] = []

    def act(self, process: Process, steps: int) -> None:
        try:
            for _ in range(steps):
                self.world.system.now += 0.1
                process.beat = self.world.system.now if process.beating else process.beat
                if not process.step():
                    break
        except Dies:
            process.alive = False
            if self.world.running.get(process.owner.shard) is process:
                del self.world.running[process.owner.shard]

    @rule(rank=st.integers(0, SHARDS - 1), steps=st.integers(1, 12), lag=st.sampled_from([0.0, 0.0, 3.0, 60.0]))
    def work(self, rank: int, steps: int, lag: float) -> None:
        process = self.world.running.get(f"shard{rank}") or self.world.start(rank)
        process.lag = lag
        self.act(process, steps)

    @rule(rank=st.integers(0, SHARDS - 1), operations=st.integers(0, 30))
    def die(self, rank: int, operations: int) -> None:
        process = self.world.running.get(f"shard{rank}") or self.world.start(rank)
        process.operations_left = operations
        self.act(process, 20)
        if process.alive:
            process.operations_left = None

    @rule(rank=st.integers(0, SHARDS - 1))
    def pause(self, rank: int) -> None:
        """SIGSTOP: the heartbeat is silent, the lock still there; Slurm may start the shard anew beside it."""
        process = self.world.running.pop(f"shard{rank}", None)
        if process is not None:
            process.beating = False
            self.paused.append(process)

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), steps=st.integers(1, 8))
    def go_on_as_if_nothing_had_been(self, data: st.DataObject, steps: int) -> None:
        self.act(data.draw(st.sampled_from(self.paused)), steps)

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.system.now += seconds

    @rule(rank=st.integers(0, SHARDS - 1), lines=st.integers(1, 3))
    def lose_the_end_of_a_journal(self, rank: int, lines: int) -> None:
        """A file that was truncated: facts are lost, and must be made again."""
        if not self.world.finished:
            del self.world.journals.get(f"shard{rank}", [])[-lines:]

    @invariant()
    def finished_is_true(self) -> None:
        if self.world.finished:
            assert not self.world.missing()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.running.clear()
        for _ in range(400 + 20 * len(world.items)):
            if world.finished:
                break
            for rank in range(SHARDS):
                process = world.running.get(f"shard{rank}") or world.start(rank)
                process.beat = world.system.now
                process.step()
            world.system.now += 1.0
        assert world.finished, f"stuck: {world.missing()} of {len(world.items)}: {sorted(world.system.files)}"
        assert not world.missing()


TestLeaseProtocol = LeaseProtocol.TestCase
TestLeaseProtocol.settings = settings(
    max_examples=200, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_shard_that_sees_late_does_not_ask_again_and_again() -> None:
    world = World(1, 1, {0: ["node0"]})
    late, other = world.start(0), world.start(1)
    assert late.step() and late.step()  # it took the item, which failed here
    world.system.now += 100.0
    assert other.step()  # silent for so long, it lost the item
    late.lag, late.operations_left = 60.0, 1000
    assert late.step()  # it gives back what it does not see to be another's
    assert late.lease is None


@given(tasks=st.integers(1, 4), episodes=st.integers(1, 12), shards=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_left_alone_every_item_is_run_once(tasks: int, episodes: int, shards: int) -> None:
    world = World(tasks, episodes, {})
    world.table = cut(world.items, range(len(world.items)), shards)
    processes = [world.start(rank) for rank in range(shards)]
    for _ in range(1000):
        if world.finished:
            break
        world.system.now += 1.0
        for process in processes:
            process.beat = world.system.now
            process.step()
    assert world.finished
    assert world.runs == Counter(range(len(world.items)))


@pytest.mark.parametrize("failing", [["node0"], ["node0", "node1"], ["node0", "node1", "node2"]])
def test_what_failed_is_tried_elsewhere_and_not_for_ever(failing: list[str]) -> None:
    world = World(1, 6, {2: failing})
    processes = [world.start(rank) for rank in range(3)]
    for _ in range(int(ELSEWHERE) * 10):
        world.system.now += 1.0
        for process in processes:
            process.beat = world.system.now
            process.step()
    assert world.finished
    assert world.runs[2] <= ATTEMPTS and (world.runs[2] == ATTEMPTS or not world.missing())
    assert all(world.runs[i] == 1 for i in range(6) if i != 2)
    nodes = [node for entries in world.journals.values() for _, item, node in entries if item == 2]
    assert len(nodes) == len(set(nodes))  # nobody tried it again where it had failed
    assert len(failing) == ATTEMPTS or None in nodes


@given(
    tasks=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    shards=st.integers(1, 100),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_chunks_are_the_open_items_and_grow_shorter(tasks: list[int], shards: int, data: st.DataObject) -> None:
    items = [Item(f"task-{t}", e, 0) for t, episodes in enumerate(tasks) for e in range(episodes)]
    chosen = data.draw(st.sets(st.sampled_from(range(len(items))), min_size=1))
    table = cut(items, sorted(chosen), shards)
    assert sorted(i for task in table.tasks for chunk in task for i in chunk) == sorted(chosen)
    for task in table.tasks:
        sizes = [len(chunk) for chunk in task]
        assert sizes == sorted(sizes, reverse=True) and sizes[0] <= LONGEST
        assert len({items[i].task for chunk in task for i in chunk}) == 1
