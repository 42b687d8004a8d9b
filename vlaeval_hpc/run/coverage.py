"""What of a plan is finished, told by every journal in the run directory."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple

from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.journal import Episode, read_journal
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.result import ATTEMPTS, is_open, settle


class Coverage(NamedTuple):
    """The settled record of each (task, episode) that any journal of the run holds, and what could not be used."""

    records: Dict[Tuple[str, int], Episode]
    problems: List[str]

    def finished(self, item: Item) -> bool:
        """Whether the item needs no further try."""
        return item.key in self.records and not is_open(self.records[item.key])


def read_coverage(run: RunDirectory, plan: Plan) -> Coverage:
    """Read every journal."""
    episodes: List[Episode] = []
    problems: List[str] = []
    for path in run.journals():
        found = read_journal(path, plan.run)
        episodes += found.episodes
        problems += found.problems
    return Coverage(settle(episodes), problems)


def open_items(run: RunDirectory, plan: Plan) -> List[int]:
    """The items, by index, that need a try."""
    coverage = read_coverage(run, plan)
    return [index for index, item in enumerate(plan.items) if not coverage.finished(item)]


def tries_left(run: RunDirectory, plan: Plan) -> int:
    """How many tries all episodes together have left: whatever is done about them makes it less."""
    records = read_coverage(run, plan).records
    open_records = [records.get(item.key) for item in plan.items]
    return sum(
        ATTEMPTS if record is None else ATTEMPTS - record["attempts"]
        for record in open_records
        if record is None or is_open(record)
    )


def open_shards(run: RunDirectory, plan: Plan) -> List[int]:
    """The shards that have an item to run, or their file to write; where they share the work, as many as it is for."""
    if plan.sharding == "elastic":
        return list(range(min(plan.shards, len(open_items(run, plan)))))
    coverage = read_coverage(run, plan)

    def is_done(shard: int) -> bool:
        written = run.shard(plan.name, shard, plan.shards).result.exists()
        return written and all(coverage.finished(item) for item in plan.assigned(shard))

    return [shard for shard in range(plan.shards) if not is_done(shard)]
