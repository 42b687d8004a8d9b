"""Time of a status over 1,000 shards of 100 episodes, the whole command.

    python perf/status.py

The figure is the best of some fresh processes: what others do on the machine only adds. Beside it stand the promise,
the CPU time and its ratio to a process that only parses the same files. Exits with 1 where the promise is not kept.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measure import ROUNDS, best_of
from synthetic import EPISODES, SHARDS, make_run

PROMISED_SECONDS = 1.0
UNFINISHED = 100
PARSE = """
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
json.loads((root / "plan.json").read_bytes())
for path in (root / "shards").glob("*.jsonl"):
    for line in path.open("rb"):
        json.loads(line)
"""


def main() -> int:
    """The table."""
    with tempfile.TemporaryDirectory() as folder:
        make_run(Path(folder), UNFINISHED)
        least = best_of([sys.executable, "-c", PARSE, folder])
        mine = best_of([sys.executable, "-m", "vlaeval_hpc", "status", folder])
    assert f"{UNFINISHED // 2} running" in mine.said and f"{SHARDS - UNFINISHED} done" in mine.said, mine.said
    print(f"status over {SHARDS} shards of {EPISODES} episodes, best of {ROUNDS} processes")
    print("".join(f"{name:>10}" for name in ("seconds", "promised", "CPU s", "x parsing")))
    print(f"{mine.seconds:10.2f}{PROMISED_SECONDS:10.0f}{mine.cpu:10.2f}{mine.cpu / least.cpu:10.1f}")
    kept = mine.seconds < PROMISED_SECONDS
    print("promise kept" if kept else "PROMISE BROKEN")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
