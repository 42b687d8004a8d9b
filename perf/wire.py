"""The way of an observation, against vla-eval 0.8.0 and bare websockets: `python perf/wire.py [ROUNDS]`.

Every kind in turn, ROUNDS times (5), in one run; a ratio is of two neighbours, and its spread that of the rounds. The
policy answers at once; observations hold two 256 x 256 frames. Exits with 1 where a promise is not kept.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from perf.peer import peer_python
from perf.table import Row, show

ROOT = Path(__file__).parent.parent
ENDS = str(ROOT / "perf" / "ends.py")
SECONDS = 2.0
MANY = 64


class Kind(NamedTuple):
    """Which server and which client, each a command; the client's gets the URL after its first three words."""

    server: list[str]
    client: list[str]
    crowd: list[str]


class Measured(NamedTuple):
    """Of one round: answers a second, median latency, the server's CPU seconds an answer, peak bytes of both."""

    rate: float
    latency: float
    cpu: float
    server_memory: int
    client_memory: int


def main() -> int:
    """The table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    kinds = all_kinds()
    one: dict[str, list[Measured]] = {name: [] for name in kinds}
    four: dict[str, list[Measured]] = {name: [] for name in kinds}
    many: dict[str, list[Measured]] = {name: [] for name in ("ours", "raw")}
    for _ in range(rounds):
        for name, kind in kinds.items():
            with serving(kind.server) as (process, url):
                one[name].append(measure(process, url, [kind.client]))
                four[name].append(measure(process, url, [kind.client] * 4))
            if name in many:
                with serving(kind.server) as (process, url):
                    many[name].append(measure(process, url, [kind.crowd]))

    def ratios(found: dict[str, list[Measured]], a: str, b: str, value: Callable[[Measured], float]) -> list[float]:
        return [value(x) / value(y) for x, y in zip(found[a], found[b], strict=True)]

    rows = [
        Row("observations/s, 4 clients, to vla-eval as shipped", ratios(four, "ours", "png", rate), 50, least=True),
        Row("observations/s, 4 clients, to vla-eval raw", ratios(four, "ours", "raw", rate), 3, least=True),
        Row("observations/s, 4 clients, to bare websockets", ratios(four, "ours", "bare", rate), 0.8, least=True),
        Row("median latency, 1 client, to bare websockets", ratios(one, "ours", "bare", latency), 1.5, least=False),
        Row(
            f"server CPU an observation, {MANY} clients, to vla-eval raw", ratios(many, "ours", "raw", cpu), 0.4, False
        ),
        Row("peak memory of the server, MB", [m.server_memory / 1e6 for m in many["ours"]], 80, False),
        Row("peak memory of a client, MB", [m.client_memory / 1e6 for m in one["ours"]], 80, False),
    ]
    kept = show(rows)
    for name in kinds:
        print(
            f"{name:5} 1 client {statistics.median(m.latency for m in one[name]) * 1e3:7.2f} ms, "
            f"4 clients {statistics.median(m.rate for m in four[name]):7.0f}/s"
        )
    for name, found in many.items():
        print(f"{name:5} {MANY} clients {statistics.median(m.cpu for m in found) * 1e6:6.0f} us of the server's CPU")
    return 0 if kept else 1


def rate(found: Measured) -> float:
    return found.rate


def latency(found: Measured) -> float:
    return found.latency


def cpu(found: Measured) -> float:
    return found.cpu


def all_kinds() -> dict[str, Kind]:
    """By name: bare, ours, raw and png."""
    here, peer = [sys.executable, ENDS], [str(peer_python()), ENDS]
    ours = [sys.executable, str(ROOT / "vlaeval_hpc" / "bootstrap.py"), "vlaeval_hpc.serving", "-"]
    shipped = [*peer, "peer-server", "1", "0.01"]
    return {
        "bare": Kind([*here, "bare-server"], [*here, "bare-client"], []),
        "ours": Kind(ours, [*here, "our-client"], [*here, "crowd", "ours", str(MANY)]),
        "raw": Kind(shipped, [*peer, "peer-client", "raw"], [*peer, "crowd", "peer", str(MANY)]),
        "png": Kind(shipped, [*peer, "peer-client", "png"], []),
    }


QUESTION = {
    "model": {
        "name": "instant",
        "target": "perf.instant:Instant",
        "params": {},
        "action_ensemble": "newest",
        "ema_alpha": 0.5,
        "max_batch_size": None,
        "max_wait_time": None,
    },
    "server": {"host": "127.0.0.1", "port": 0},
}


@contextmanager
def serving(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that is ready, and its URL; what it says is shown where it does not come up."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(QUESTION))
            process.stdin.close()
            ready = process.stdout.readline()
            if not ready:
                said.seek(0)
                raise SystemExit(f"the server does not come up: {said.read()[-4000:]}")
            yield process, ready.split()[1]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def measure(server: subprocess.Popen[str], url: str, clients: list[list[str]]) -> Measured:
    """Run these clients at the same time."""
    with ExitStack() as stack:
        running = []
        for command in clients:
            line = [*command[:3], url, *command[3:]]
            process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            running.append(process)
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        before = cpu_seconds(server.pid)
        for process in running:
            assert process.stdin is not None
            process.stdin.write(f"{SECONDS}\n")
            process.stdin.flush()
        said = []
        for process in running:
            assert process.stdout is not None
            said.append(json.loads(process.stdout.readline()))
        used = cpu_seconds(server.pid) - before
    count = sum(x["count"] for x in said)
    return Measured(
        rate=sum(x["count"] / x["seconds"] for x in said),
        latency=statistics.median(x["median"] for x in said),
        cpu=used / count,
        server_memory=peak_memory(server.pid),
        client_memory=max(x["memory"] for x in said),
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """Bytes that a process held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
