"""Where everything lies in a run directory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterator, List, Union


class RunDirectory:
    """Paths of one run; the class only names them, `create` makes the folders."""

    def __init__(self, root: Union[str, Path]) -> None:
        self.root = Path(root)
        self.config = self.root / "config.yaml"
        self.plan = self.root / "plan.json"
        self.provenance = self.root / "provenance.json"
        self.jobs = self.root / "jobs.json"
        self.server = self.root / "server"
        self.shards = self.root / "shards"
        self.leases = self.root / "leases"
        self.decisions = self.root / "decisions.json"
        self.logs = self.root / "logs"
        self.videos = self.root / "videos"
        self.steps = self.root / "steps"
        self.merged = self.root / "merged.json"
        self.merged_csv = self.root / "merged.csv"

    def create(self) -> None:
        """Make the folders; they may exist. `server` holds secrets and is the user's alone."""
        for folder in (self.root, self.shards, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.server.mkdir(mode=0o700, exist_ok=True)

    def rendezvous(self, replica: int) -> Path:
        """Where a server replica tells how it is reached."""
        return self.server / f"rendezvous-{replica}.json"

    @property
    def stop(self) -> Path:
        """Exists once no server will come any more: shards leave, servers end."""
        return self.server / "stop"

    @property
    def idle(self) -> Path:
        """Exists once a server has left because no shard came: whoever needs one asks for it again."""
        return self.server / "idle"

    def all_finished(self, leases: int) -> Path:
        """Exists once an elastic run's shards have found every item finished."""
        return self.leases / str(leases) / "finished"

    def shard(self, name: str, shard: int, shards: int) -> "ShardFiles":
        """The files of one shard."""
        return ShardFiles(self.shards, f"{name}_shard{shard}of{shards}")

    def finished_shards(self, name: str, shards: int) -> int:
        """How many shards of this split have written their file: one listing, whatever their number."""
        wanted = {f"{name}_shard{i}of{shards}.json" for i in range(shards)}
        try:
            return len(wanted.intersection(os.listdir(str(self.shards))))
        except OSError:
            return 0

    def shard_numbers(self, name: str, shards: int) -> List[int]:
        """The shards of this split that have a journal."""
        pattern = re.compile(re.escape(name) + r"_shard(\d+)of" + str(shards) + r"\.jsonl")
        return [int(found[1]) for found in (pattern.fullmatch(p.name) for p in self.journals()) if found]

    def journals(self) -> Iterator[Path]:
        """Every journal, of this or any earlier number of shards, in a stable order."""
        return iter(sorted(self.shards.glob("*.jsonl")))


class ShardFiles:
    """The files of one shard."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.stem = stem
        self.journal = folder / (stem + ".jsonl")
        self.progress = folder / (stem + ".progress")
        self.lock = folder / (stem + ".lock")
        self.result = folder / (stem + ".json")
        self.sick = folder / (stem + ".sick")
