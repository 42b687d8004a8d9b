"""plan.json: what is to be run, fixed before anything starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.files import SCHEMA, check_schema, read_json, write_atomic


class Item(NamedTuple):
    """One episode to run: the unit of work, of recovery and of results."""

    task: str
    episode: int
    seed: int

    @property
    def key(self) -> Tuple[str, int]:
        """What names the episode in every file."""
        return (self.task, self.episode)


@dataclass
class Plan:
    """The work of a run and all that a server or a shard needs to do it.

    `sharding` static: a shard has its items from the beginning; elastic: it takes leases (run.leases), in the folder
    numbered `leases`. `simulators` work side by side in a shard.

    `run` identifies what decides outcomes, so that files of another run are told apart. `name` starts the shard
    files' names. `items` are task-major. `benchmark`, `model`, `server`, `recording` and `mode` are those sections of
    the config, as plain values, the last two empty where there is nothing special: the rooms inside a container read no
    YAML.
    """

    run: str
    name: str
    shards: int
    items: List[Item]
    tasks: List[Dict[str, Any]]
    benchmark: Dict[str, Any]
    model: Dict[str, Any]
    server: Dict[str, Any]
    config: Dict[str, Any] = field(default_factory=dict)
    sharding: str = "static"
    leases: int = 0
    simulators: int = 1
    recording: Dict[str, Any] = field(default_factory=dict)
    mode: Dict[str, Any] = field(default_factory=dict)

    def assigned(self, shard: int) -> List[Item]:
        """The items of a static shard: item index modulo the number of shards."""
        if not 0 <= shard < self.shards:
            raise ConfigurationError(f"shard {shard} is not in this plan: valid: 0 to {self.shards - 1}")
        return self.items[shard :: self.shards]

    def task(self, name: str) -> Dict[str, Any]:
        """The benchmark's own description of a task."""
        for task in self.tasks:
            if task["name"] == name:
                return task
        raise ConfigurationError(f"plan.json has no task '{name}'")

    def save(self, path: Path) -> None:
        """Write atomically, an item a line, so that a person can read it and grep counts."""
        head = {k: v for k, v in self.__dict__.items() if k != "items"}
        text = json.dumps({"schema": SCHEMA, **head}, indent=1, allow_nan=False)
        rows = ",\n".join(json.dumps(item._asdict()) for item in self.items)
        write_atomic(path, text[: -len("\n}")] + ',\n "items": [\n' + rows + "\n]}\n")

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read plan.json. Raises ConfigurationError where it is missing, torn, or of a newer schema."""
        raw = read_json(path)
        try:
            check_schema(path, raw.pop("schema"))
            items = [Item(str(i["task"]), int(i["episode"]), int(i["seed"])) for i in raw.pop("items")]
            return cls(items=items, **raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"{path}: not a plan: {error}") from error
