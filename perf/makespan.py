"""What elastic sharding reaches: makespan and file operations, simulated in virtual time by the real lease code.

python perf/makespan.py              # 50 shards, 2,000 and 500 episodes, against the bound, static and a plain queue
python perf/makespan.py --large      # 2,000 shards and 100,000 episodes: operations an item, waiting for work
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Generator
from dataclasses import dataclass, field

from vlaeval_hpc.run.chunks import cut
from vlaeval_hpc.run.leases import SILENT_BEATS, Account, Leases, Owner
from vlaeval_hpc.run.plan import Item

STEP = 0.12  # seconds a step, policy included
LIMIT = 220  # steps; a failure runs to it
LOAD = 10.0  # seconds to load a task's simulator
PAGE = 500  # names that one READDIR brings
STANDBY = 90.0
POLL = 2.0


class MemoryStore:
    """run.store's operations on a dictionary, counted."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.files: dict[str, tuple[float, str]] = {}
        self.folders: dict[str, dict[str, None]] = {}
        self.operations = 0

    def create(self, name: str, text: str = "") -> bool:
        self.operations += 1
        if name in self.files:
            return False
        self.files[name] = (self.clock.now, text)
        folder, _, leaf = name.rpartition("/")
        self.folders.setdefault(folder, {})[leaf] = None
        return True

    def read(self, name: str) -> str | None:
        self.operations += 1
        return self.files[name][1] if name in self.files else None

    def names(self, folder: str) -> list[str]:
        found = list(self.folders.get(folder, ()))
        self.operations += 1 + len(found) // PAGE
        return found

    def age(self, name: str) -> float | None:
        self.operations += 1
        return self.clock.now - self.files[name][0] if name in self.files else None


@dataclass
class Clock:
    now: float = 0.0


@dataclass
class World:
    """Episodes and workers, drawn from a seed."""

    items: list[Item]
    lengths: list[float]
    starts: list[float]
    deaths: list[float]


def draw(seed: int, episodes: int, tasks: int, workers: int, dead: int) -> World:
    """Lengths with LIBERO's tails: most succeed early, the rest run to the limit; a task's own rate and pace."""
    rng = random.Random(seed)
    items, lengths = [], []
    for task in range(tasks):
        rate, middle = rng.uniform(0.3, 0.98), rng.uniform(80, 140)
        for episode in range(episodes // tasks):
            items.append(Item(f"task-{task}", episode, 0))
            steps = min(LIMIT, rng.lognormvariate(0, 0.25) * middle) if rng.random() < rate else LIMIT
            lengths.append(steps * STEP)
    # A first guess at how long it takes, for the starts: over half of the run.
    run = (sum(lengths) + LOAD * workers) / workers / 0.75
    starts = sorted(rng.uniform(0, run / 2) for _ in range(workers))
    starts[0] = 0.0
    rng.shuffle(starts)
    deaths = [float("inf")] * workers
    for worker in rng.sample(range(workers), dead):
        deaths[worker] = rng.uniform(starts[worker], run)
    return World(items, lengths, starts, deaths)


def bound(world: World, load: float = LOAD) -> float:
    """No schedule ends before: every length known, each worker's simulator loaded once, what dies gives until then."""
    work = sum(world.lengths)
    low, high = 0.0, work + max(world.starts) + load
    while high - low > 1e-3:
        end = (low + high) / 2
        able = sum(max(0.0, min(end, d) - s - load) for s, d in zip(world.starts, world.deaths, strict=True))
        low, high = (low, end) if able >= work else (end, high)
    return max(high, min(world.starts) + load + max(world.lengths))


@dataclass
class Outcome:
    makespan: float
    operations: int = 0
    waited: float = 0.0
    doubled: int = 0
    loads: int = 0
    parts: dict[str, int] = field(default_factory=dict)


def elastic(world: World, shards: int) -> Outcome:
    """Every worker runs run.leases against one store."""
    clock = Clock()
    store = MemoryStore(clock)
    table = cut(world.items, range(len(world.items)), shards)
    silence = table.heartbeat * SILENT_BEATS
    finished: dict[str, set[int]] = {}
    ends: dict[int, float] = {}
    living: dict[str, float] = {}  # until when a worker is heard
    outcome = Outcome(0.0)

    def worker(rank: int) -> Generator[float, None, None]:
        name = f"shard{rank}"
        me = Owner(name, name, f"node{rank}")
        mine = finished.setdefault(name, set())
        living[name] = world.deaths[rank] + silence
        leases = Leases(
            store, "leases", table, me, rank,
            lambda o: _asked(store, 2, clock.now < living.get(o.shard, 0.0)),
            lambda s: _asked(store, 1, Account(finished[s], {})) if s != name else Account(mine, {}),
            lambda: [i for i in range(len(world.items)) if i not in ends],
            lambda: clock.now,
        )  # fmt: skip
        loaded, worked, idle, pause = "", False, 0.0, POLL
        store.operations += 2  # lock and journal
        while True:
            lease = leases.take()
            if lease is None:
                if leases.finished or not worked or idle > STANDBY or rank >= 50:
                    break
                outcome.waited += pause
                idle += pause
                yield pause
                pause = min(20.0, pause * 1.5)
                continue
            idle, pause = 0.0, POLL
            while (item := leases.next(lease)) is not None:
                if world.items[item].task != loaded:
                    loaded = world.items[item].task
                    outcome.loads += 1
                    yield LOAD
                yield world.lengths[item]
                mine.add(item)
                if item in ends:
                    outcome.doubled += 1
                ends.setdefault(item, clock.now)
                worked = True
        living[name] = 0.0

    queue: list[tuple[float, int]] = []
    workers = {}
    for rank, start in enumerate(world.starts):
        workers[rank] = worker(rank)
        heapq.heappush(queue, (start, rank))
    alive = 0.0
    while queue:
        clock.now, rank = heapq.heappop(queue)
        if clock.now >= world.deaths[rank]:
            continue
        pause = next(workers[rank], None)
        if pause is not None:
            alive += pause
            heapq.heappush(queue, (clock.now + pause, rank))
    assert len(ends) == len(world.items), f"{len(world.items) - len(ends)} items lost"
    outcome.makespan = max(ends.values())
    outcome.operations = store.operations + int(alive / table.heartbeat)
    return outcome


def _asked(store: MemoryStore, operations: int, value):  # type: ignore[no-untyped-def]
    store.operations += operations  # a lock is opened to be read and to see its age, a journal to be read
    return value


def static(world: World, shards: int) -> Outcome:
    """Item index modulo shards; a dead shard's items are done by one started in its place, as after a requeue."""
    ends = []
    for rank in range(shards):
        now, loaded = world.starts[rank], ""
        for item in range(rank, len(world.items), shards):
            load = LOAD if world.items[item].task != loaded else 0.0
            loaded = world.items[item].task
            if now < world.deaths[rank] <= now + load + world.lengths[item]:
                now, load = world.deaths[rank], LOAD
            now += load + world.lengths[item]
        ends.append(now)
    return Outcome(max(ends))


def plain_queue(world: World, shards: int) -> Outcome:
    """One item after the other to whoever is free; what a dead worker had in hand goes to the end of the queue."""
    waiting = list(reversed(range(len(world.items))))
    free = [(start, rank, "") for rank, start in enumerate(world.starts)]
    heapq.heapify(free)
    end = 0.0
    while waiting:
        now, rank, loaded = heapq.heappop(free)
        item = waiting.pop()
        task = world.items[item].task
        after = now + (LOAD if task != loaded else 0.0) + world.lengths[item]
        if now < world.deaths[rank] <= after:
            waiting.insert(0, item)
            continue
        if world.deaths[rank] <= now:
            waiting.append(item)
            continue
        end = max(end, after)
        heapq.heappush(free, (after, rank, task))
    return Outcome(end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    if arguments.large:
        world = draw(1, 100_000, 10, 2_000, 20)
        found = elastic(world, 2_000)
        print(f"2,000 shards, 100,000 episodes: {found.operations / 100_000:.2f} operations an item,"
              f" {found.waited / 2_000:.2f} s a shard waiting for work, {found.doubled} items run twice,"
              f" {bound(world) / found.makespan:.3f} of the bound")  # fmt: skip
        return
    for episodes in (2_000, 500):
        rows: dict[str, list[float]] = {"elastic": [], "static": [], "plain queue": []}
        operations, loads, doubled = [], [], []
        for seed in range(arguments.seeds):
            world = draw(seed, episodes, 10, 50, 3)
            best = bound(world)
            found = elastic(world, 50)
            rows["elastic"].append(best / found.makespan)
            rows["static"].append(best / static(world, 50).makespan)
            rows["plain queue"].append(best / plain_queue(world, 50).makespan)
            operations.append(found.operations / episodes)
            loads.append(found.loads)
            doubled.append(found.doubled)
        print(f"{episodes} episodes, 50 shards that start over half of the run, 3 die; {arguments.seeds} seeds")
        for name, values in rows.items():
            print(f"  {name:12} {statistics.mean(values):.3f} of the bound (worst {min(values):.3f})")
        print(f"  elastic: {statistics.mean(operations):.2f} operations an item, {statistics.mean(loads):.0f} loads,"
              f" {statistics.mean(doubled):.1f} items run twice")  # fmt: skip


if __name__ == "__main__":
    main()
