"""How soon an array task sends its first observation: after its own start, or after the server, whichever is later.

    sudo scripts/devcluster up && sudo scripts/devcluster base-image     # or any login node
    python perf/startup.py FOLDER benchmark=metaworld [key=value ...]

FOLDER lies on the shared file system; the rest chooses benchmark, image, partitions and accounts. One evaluation is
submitted and waited for. Of each array task, in seconds: from submitit's first word to the start of the shard's
process; from there to the first observation (container, imports, the first reset) without the wait for a server; that
wait. Exits with 1 where the promised 5 s are not kept.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

PROMISED = 5.0


def main() -> int:
    """The table."""
    folder = Path(sys.argv[1]).absolute()
    options = ["cluster=slurm", "cluster.shards=2", f"results={folder}", "run=startup", *sys.argv[2:]]
    subprocess.run([sys.executable, "-m", "vlaeval_hpc", *options], check=True)
    run = folder / "startup"
    ready = 0.0
    while not (run / "merged.json").exists():
        time.sleep(0.2)
        if not ready:  # once: a server that leaves publishes itself again
            ready = published(run / "server" / "rendezvous-0.json")
    jobs = json.loads((run / "jobs.json").read_text())["submissions"][-1]["jobs"]
    columns = ("shard", "submitit", "container", "server", "in all", "after start or server")
    print("  ".join(columns))
    worst = 0.0
    for job in jobs:
        for task, members in enumerate(job["members"] if job["kind"] == "shards" else []):
            name = f"{job['id']}_{task}" if len(job["members"]) > 1 else job["id"]
            began = submitit_began((run / "jobs" / f"{name}_0_log.out").read_text())
            started, first, waited = shard_times(run, members[0])
            promised = first - max(began, ready)
            worst = max(worst, promised)
            values = (started - began, first - started - waited, waited, first - began, promised)
            row = zip(columns[1:], values, strict=True)
            print("  ".join([f"{members[0]:5}", *(f"{value:{len(name)}.2f}" for name, value in row)]))
    kept = worst < PROMISED
    print(f"worst {worst:.2f} s, promised under {PROMISED:.0f}: {'kept' if kept else 'BROKEN'}")
    return 0 if kept else 1


def published(rendezvous: Path) -> float:
    """When the server was ready, 0 where it is not yet."""
    try:
        return float(json.loads(rendezvous.read_text())["published"])
    except FileNotFoundError:
        return 0.0


def submitit_began(log: str) -> float:
    """When the job's Python was up, in seconds since the epoch."""
    found = re.search(r"INFO \((\S+ \S+),(\d+)\) - Starting", log)
    assert found, log
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").timestamp() + int(found[2]) / 1000


def shard_times(run: Path, shard: int) -> tuple[float, float, float]:
    """When the shard's process was started, when it sent its first observation, and how long it waited for a server."""
    log = (run / "logs" / f"shard-{shard}.log").read_text()
    found = re.search(r"at (\S+): first observation, (\S+) s after the start, (\S+) s for a server", log)
    assert found, log
    first, since, waited = (float(x) for x in found.groups())
    return first - since, first, waited


if __name__ == "__main__":
    sys.exit(main())
