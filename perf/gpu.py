"""What only a GPU shows, in one command: `python perf/gpu.py [--only libero|policy] [--tiny]`.

libero: episodes an hour under EGL for 1, 8 and 16 shards, ours with every frame looked at (eager) and with chunks of 8
(lazy), and vla-eval 0.8.0. policy: 16 clients of a policy of OpenVLA's shape (perf/openvla.py), answers a second with
the server's own batching, of the best fixed batch size's, and the share of time in which the GPU computes, by its
driver's count, promised at 0.95. Results go to docs/performance-gpu.md with date and device. --tiny tries the code
without a GPU: small sizes, OSMesa, nothing is written.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from perf.batching import count
from perf.libero import Setting, compare, run_ours, run_theirs
from perf.peer import libero_peer_python
from perf.table import Row, show
from perf.wire import QUESTION, serving
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.launch.environment import interpreter
from vlaeval_hpc.wire.messages import EPISODE_START, OBSERVATION, Message

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "performance-gpu.md"
HEAD = "# On a GPU\n\nAdded by `perf/gpu.py`, one section a run.\n"
CLIENTS = 16
SIZES = (1, 2, 4, 8, 16)
PAUSES = (0.01, 0.1)  # seconds between an answer and the next observation: a chunk's steps
PROMISED = 0.95


def main() -> int:
    """The tables; exit status 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("libero", "policy"))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each batching setting")
    chosen = parser.parse_args()
    lines: list[str] = []
    kept = True
    if chosen.only != "policy":
        lines += libero(chosen.tiny)
    if chosen.only != "libero":
        found, kept = policy(chosen.tiny, 2.0 if chosen.tiny else chosen.seconds)
        lines += found
    print("\n".join(lines))
    if not chosen.tiny:
        day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        before = RESULTS.read_text() if RESULTS.exists() else HEAD
        RESULTS.write_text(f"{before}\n## {day}, {device()}\n\n" + "\n".join(lines) + "\n")
    return 0 if kept else 1


def device() -> str:
    """The GPU's name, and the CPUs."""
    return f"{nvidia('name')}, {len(os.sched_getaffinity(0))} CPU cores"


def nvidia(field: str) -> str:
    """What the driver says of the first GPU."""
    line = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", "--id=0"]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


def libero(tiny: bool) -> list[str]:
    """Episodes an hour."""
    python = libero_peer_python()
    lines = ["| shards | eager | lazy | vla-eval | lazy to vla-eval |", "| ---: | ---: | ---: | ---: | ---: |"]
    for shards in (1,) if tiny else (1, 8, 16):
        setting = Setting(2, steps=9, shards=shards) if tiny else Setting(3, shards=shards, gl="egl")
        eager, lazy, theirs = run_ours(1, setting), run_ours(8, setting), run_theirs(python, 8, setting)
        compare(lazy, theirs, shards)
        hours = [3600 / run.seconds for run in (eager, lazy, theirs)]
        lines.append(
            "| " + " | ".join([str(shards), *(f"{x:.0f}" for x in hours), f"{hours[1] / hours[2]:.2f}"]) + " |"
        )
    return ["LIBERO, libero_spatial, 220 steps, two cameras, episodes an hour:", "", *lines, ""]


def policy(tiny: bool, seconds: float) -> tuple[list[str], bool]:
    """Answers a second by setting, None being the server's own way, and the share of time that the GPU computes."""
    # A node with a GPU may reach no package index, and have torch.
    here = importlib.util.find_spec("torch") is not None
    wanted = EnvironmentConfig(kind="host") if here else EnvironmentConfig(kind="venv", requirements=["torch"])
    python = interpreter(wanted, "perf-gpu", print)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        params = {"size": "tiny" if tiny else "7b", "log": str(log)}
        QUESTION["model"].update(target="perf.openvla:OpenVLAShaped", params=params)  # type: ignore[attr-defined]
        with serving([str(python), str(ROOT / "vlaeval_hpc" / "bootstrap.py"), "vlaeval_hpc.serving", "-"]) as (_, url):
            found = asyncio.run(settings(url, seconds, log, tiny))
    best = max(SIZES, key=lambda size: found[size][0])
    ours, busy = found[None]
    rows = [
        Row("answers/s, to the best fixed size", [ours / found[best][0]], 0 if tiny else 0.97, least=True),
        Row("share of time that the GPU computes", [busy], 0 if tiny else PROMISED, least=True),
    ]
    kept = show(rows)
    lines = ["| batch size | answers/s | GPU computes |", "| --- | ---: | ---: |"]
    lines += [f"| {size or 'without tuning'} | {rate:.2f} | {share:.2f} |" for size, (rate, share) in found.items()]
    return [f"A policy of OpenVLA's shape, {CLIENTS} clients:", "", *lines, ""], kept


async def settings(url: str, seconds: float, log: Path, tiny: bool) -> dict[int | None, tuple[float, float]]:
    """Answers a second and the share of time that the GPU computes, by batch size; the server's own way last."""
    address, _, token = url.partition("/?token=")
    rng = random.Random(0)
    pauses = [rng.uniform(*PAUSES) for _ in range(CLIENTS)]
    sessions = [await connect(url, compression=None, max_size=None, ping_interval=None) for _ in pauses]
    for session in sessions:
        await session.send(Message(EPISODE_START, {"task": {"name": "perf"}}, 1).pack())
    picture = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    frame = Message(OBSERVATION, {"images": {"agentview": picture}}, 2).pack()
    found: dict[int | None, tuple[float, float]] = {}
    for size in (*SIZES, None):
        query = f"/config?max_batch_size={size or 'auto'}&max_wait_time={'auto' if size is None else 0.0}&token={token}"
        with urllib.request.urlopen(address.replace("ws:", "http:") + query) as answer:
            assert json.loads(answer.read())["applied"]
        await count(sessions, pauses, frame, seconds / 2)  # settles
        share = Share(log, tiny)
        answers = await count(sessions, pauses, frame, seconds)
        found[size] = (answers / seconds, share.end())
    for session in sessions:
        await session.close()
    return found


class Share:
    """The share of time that the GPU computes, from now to `end`: the driver's count, five times a second; without a
    GPU, that in which the policy is at work."""

    def __init__(self, log: Path, tiny: bool) -> None:
        self._log = log
        self._tiny = tiny
        self._began = time.time()
        self._seen: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> float:
        """The share."""
        now = time.time()
        self._stop.set()
        self._thread.join()
        if not self._tiny:
            return float(np.mean(self._seen)) / 100
        batches = [json.loads(line) for line in self._log.read_text().splitlines()]
        spans = [min(end, now) - max(begin, self._began) for begin, end, _ in batches]
        return sum(span for span in spans if span > 0) / (now - self._began)

    def _watch(self) -> None:
        while not self._tiny and not self._stop.wait(0.2):
            self._seen.append(float(nvidia("utilization.gpu")))


if __name__ == "__main__":
    sys.exit(main())
