"""Batching without tuning, against the best fixed size and wait: `python perf/batching.py [ROUNDS]`.

A policy on a simulated accelerator, FIXED + EACH * n seconds a batch, behind our server; 50 sessions of uneven speed
over WebSockets. In each round the fixed settings of a grid, vla-eval's defaults among them, and the server's own way
take turns on one server. The ratio is to the best of the round.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from perf.table import Row, show
from perf.wire import QUESTION, serving
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.messages import EPISODE_START, OBSERVATION, Message
from vlaeval_hpc.wire.specs import Spec

ROOT = Path(__file__).parent.parent
FIXED, EACH = 0.04, 0.001
SESSIONS = 50
SECONDS = 3.0
GROUPS = {"quick": (0.005, 0.03), "slow": (0.05, 0.5)}  # seconds between an answer and the next observation
STATE = Message(OBSERVATION, {"states": np.zeros(1)}, 2).pack()
GRID = [(1, 0.01), *itertools.product((8, 25, 45, 50), (0.0, 0.02, 0.06))]


class Accelerator(Policy):
    """Takes its time, whatever the observations are."""

    action_spec = {"action": Spec("action", 7, "any")}
    observation_spec = {"state": Spec("state", 1, "any")}

    def predict(self, observations: Sequence[Observation], sessions: Sequence[Session]) -> list[NDArray[np.float32]]:
        """One action each."""
        time.sleep(FIXED + EACH * len(observations))
        return [np.zeros((1, 7), np.float32) for _ in observations]


def main() -> int:
    """The table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = []
    QUESTION["model"].update(target="perf.batching:Accelerator")  # type: ignore[attr-defined]
    for name, (least, most) in GROUPS.items():
        ratios, ones, best = [], [], ((0, 0.0), 0.0)
        for number in range(rounds):
            found = asyncio.run(one_round(least, most, number))
            best = max(((s, found[s]) for s in GRID), key=lambda pair: pair[1])
            ratios.append(found[None] / best[1])
            ones.append(found[GRID[0]] / best[1])
        rows.append(Row(f"answers/s, {name} sessions, to the best fixed setting", ratios, 0.97, least=True))
        rows.append(Row("  the same of vla-eval's default setting, one by one", ones, 0.0, least=True))
        print(f"{name}: best fixed in the last round: size {best[0][0]}, wait {best[0][1]} s, {best[1]:.0f} answers/s")
    return 0 if show(rows) else 1


async def one_round(least: float, most: float, number: int) -> dict[tuple[int, float] | None, float]:
    """Answers a second by fixed setting; None is the server's own way."""
    rng = random.Random(number)
    pauses = [rng.uniform(least, most) for _ in range(SESSIONS)]
    with serving([sys.executable, str(ROOT / "vlaeval_hpc" / "bootstrap.py"), "vlaeval_hpc.serving", "-"]) as (_, url):
        address, _, token = url.partition("/?token=")
        sessions = [await connect(url, compression=None, ping_interval=None) for _ in pauses]
        for session in sessions:
            await session.send(Message(EPISODE_START, {"task": {"name": "perf"}}, 1).pack())
        found = {}
        for setting in [*GRID, None]:
            size, wait = setting or ("auto", "auto")
            query = f"/config?max_batch_size={size}&max_wait_time={wait}&token={token}"
            with urllib.request.urlopen(address.replace("ws:", "http:") + query) as answer:
                assert json.loads(answer.read())["applied"]
            await count(sessions, pauses, STATE, SECONDS / 3)  # settles
            found[setting] = await count(sessions, pauses, STATE, SECONDS) / SECONDS
        for session in sessions:
            await session.close()
    return found


async def count(sessions: Sequence[ClientConnection], pauses: Sequence[float], frame: bytes, seconds: float) -> float:
    """Answers in that time to all of them, who ask with this frame; of one that comes later, the part in that time."""
    end = time.perf_counter() + seconds

    async def one(session: ClientConnection, pause: float) -> float:
        rng, answered = random.Random(pause), 0.0
        while True:
            await asyncio.sleep(pause * rng.lognormvariate(0, 0.2))
            asked = time.perf_counter()
            if asked > end:
                return answered
            await session.send(frame)
            await session.recv()
            answered += min(1.0, (end - asked) / (time.perf_counter() - asked))

    return sum(await asyncio.gather(*map(one, sessions, pauses)))


if __name__ == "__main__":
    sys.exit(main())
