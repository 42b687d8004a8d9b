"""From Enter to prompt on a real Slurm: one evaluation, promised under 3 s, and a sweep of 100, promised under 60 s.

    sudo scripts/devcluster up                  # or any login node
    python perf/submit.py FOLDER [key=value ...]

FOLDER lies on the shared file system; what follows chooses partitions and accounts, as cluster.server.partition=gpu.
Jobs are held (sbatch --hold) and cancelled at the end, so that only submitting is measured. Beside the times stand
those of the sbatch calls alone, on the same script: what no launcher can do without. Exits with 1 where a promise is
broken.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ONE, SWEEP, POINTS = 3.0, 60.0, 100


def main() -> int:
    """The table."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    options = ["cluster=slurm", "container=none", "+cluster.sbatch.hold=true", f"results={folder}", *sys.argv[2:]]
    call("prepare", *options)  # environments are made once; that is not what is measured
    one = call("run=one", *options)
    bare = bare_sbatch(folder / "one", 3)
    points = "benchmark.max_steps=" + ",".join(map(str, range(1, POINTS + 1)))
    sweep = call("-m", points, *options)
    cancel(folder)
    print(f"{'':24}{'seconds':>9}{'promised':>10}{'sbatch alone':>14}")
    print(f"{'one evaluation':24}{one:9.2f}{ONE:10.0f}{bare:14.2f}")
    print(f"{f'a sweep of {POINTS}':24}{sweep:9.2f}{SWEEP:10.0f}{bare * POINTS:14.2f}")
    kept = one < ONE and sweep < SWEEP
    print("promises kept" if kept else "A PROMISE IS BROKEN")
    return 0 if kept else 1


def call(*arguments: str) -> float:
    """Seconds that a command takes; it must succeed."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vlaeval_hpc", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def bare_sbatch(run: Path, calls: int) -> float:
    """Seconds of that many sbatch calls on a script of the run."""
    script = next(run.glob("jobs/*_submission.sh"))
    begin = time.perf_counter()
    line = ["sbatch", "--parsable", "--hold", str(script)]
    ids = [subprocess.run(line, check=True, capture_output=True, text=True).stdout for _ in range(calls)]
    seconds = time.perf_counter() - begin
    subprocess.run(["scancel", *(i.strip() for i in ids)], check=True)
    return seconds


def cancel(folder: Path) -> None:
    """Every job that was submitted."""
    ids = [
        job["id"]
        for path in folder.glob("*/jobs.json")
        for submission in json.loads(path.read_text())["submissions"]
        for job in submission["jobs"]
    ]
    subprocess.run(["scancel", *ids], check=True)


if __name__ == "__main__":
    sys.exit(main())
