from __future__ import annotations

from pathlib import Path

from tests.conftest import Command
from tests.toys import TOY


def test_a_shard_that_comes_late_finds_nothing_to_do_and_leaves(vlaeval: Command, tmp_path: Path) -> None:
    done = vlaeval(*TOY, "run=a", "sharding=elastic", "cluster.shards=2")
    assert done.returncode == 0, done.stdout + done.stderr
    before = sorted((tmp_path / "results" / "a").rglob("*"))
    for shard in ("0", "1", "40"):  # an array may be longer than the plan knew
        late = vlaeval("shard", "results/a", "--shard-id", shard)
        assert late.returncode == 0 and "nothing to do: every item is finished" in late.stdout
    assert sorted((tmp_path / "results" / "a").rglob("*")) == before  # it left no trace, and asked for no server
