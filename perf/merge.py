"""Time and memory of merging 1,000 shards of 100 episodes, from shard files and from a run directory.

    python perf/merge.py

Each figure is the best of some fresh processes, from start to written files: what others do on the machine only adds.
Beside it stand the promise, the CPU time and its ratio to a process that only parses the same files. Exits with 1
where a promise is not kept.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from measure import ROUNDS, best_of
from synthetic import EPISODES, SHARDS, make_run

from vlaeval_hpc.results.export import merge_into_files, write_json_file
from vlaeval_hpc.results.merge import merge_files
from vlaeval_hpc.run.directory import RunDirectory

PROMISED_SECONDS = 5.0
PROMISED_MB = 500.0


def parse_files(root: Path) -> None:
    """Baseline: what any merge of the shard files must at least do."""
    kept = [json.loads(path.read_bytes()) for path in sorted((root / "shards").glob("*.json"))]
    assert len(kept) == SHARDS


def parse_journals(root: Path) -> None:
    """Baseline: what any merge of the journals must at least do."""
    kept = [json.loads(line) for path in sorted((root / "shards").glob("*.jsonl")) for line in path.open("rb")]
    assert len(kept) >= SHARDS * EPISODES


def files(root: Path) -> None:
    """Shard files to one JSON."""
    merged = merge_files(sorted((root / "shards").glob("*.json")))
    assert merged["num_episodes"] == SHARDS * EPISODES and not merged["problems"]
    write_json_file(root / "files.json", merged)


def run(root: Path) -> None:
    """A run directory to merged.json, merged.csv, episodes.parquet and report.html."""
    merged = merge_into_files(RunDirectory(root))
    assert merged["coverage"]["finished"] == SHARDS * EPISODES and not merged["problems"]


CASES = {case.__name__: case for case in (parse_files, files, parse_journals, run)}
BASELINES = {"files": "parse_files", "run": "parse_journals"}


def main() -> int:
    """The table; or, in a process of its own, one case."""
    if len(sys.argv) == 3:
        CASES[sys.argv[1]](Path(sys.argv[2]))
        print(_peak_mb())
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make_run(Path(folder))
        measured = {case: best_of([sys.executable, __file__, case, folder]) for case in CASES}
    print(f"merging {SHARDS} shards of {EPISODES} episodes, best of {ROUNDS} processes")
    names = ("seconds", "promised", "CPU s", "x parsing", "peak MB", "promised", "x parsing")
    print(" " * 6 + "".join(f"{name:>10}" for name in names))
    kept = True
    for case, baseline in BASELINES.items():
        mine, least = measured[case], measured[baseline]
        memory = float(mine.said)
        row = f"{mine.seconds:10.2f}{PROMISED_SECONDS:10.0f}{mine.cpu:10.2f}{mine.cpu / least.cpu:10.1f}"
        print(f"{case:6}{row}{memory:10.0f}{PROMISED_MB:10.0f}{memory / float(least.said):10.1f}")
        kept = kept and mine.seconds < PROMISED_SECONDS and memory < PROMISED_MB
    print("promise kept" if kept else "PROMISE BROKEN")
    return 0 if kept else 1


def _peak_mb() -> float:
    # VmHWM is this program's alone; ru_maxrss begins at what the parent had before exec.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


if __name__ == "__main__":
    sys.exit(main())
