"""Evaluations on the one-machine cluster while everything breaks; as root: `python -m tests.chaos --seed 1 --runs 200`

Each run submits an evaluation of doubles, does at random what clusters do, and asks whether the merged episodes are
those of an undisturbed run: none lost, none doubled, none changed. Where jobs were killed for good, `resume` finishes.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.chaos.run import Chaos, Found
from tests.cluster.conftest import bring_up


def main() -> int:
    """Exit status 0 where every run was right."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next have the next numbers")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--faults", type=int, default=4, help="in each run")
    parser.add_argument("--beside", type=int, default=1, help="runs at a time")
    parser.add_argument("--pace", type=float, default=0.25, help="seconds a step")
    parser.add_argument("--containers", type=int, default=5, help="every so many-th run has its simulators in some")
    parser.add_argument("--only", default="", metavar="WORD", help="faults whose name in faults.py has it")
    arguments = parser.parse_args()
    one = partial(_one, Chaos(bring_up(), arguments.pace, arguments.only), arguments.faults, arguments.containers)
    with ThreadPoolExecutor(arguments.beside) as pool:
        found = list(pool.map(one, range(arguments.seed, arguments.seed + arguments.runs)))
    right = sum(not f.wrong for f in found)
    met = Counter(told.partition(" by ")[0] for f in found for told in f.faults)
    print(f"{right} of {arguments.runs} runs right; {dict(met.most_common())}")
    return 0 if right == arguments.runs else 1


def _one(chaos: Chaos, faults: int, containers: int, seed: int) -> Found:
    begin = time.monotonic()
    inside = containers > 0 and seed % containers == 0
    try:
        found = chaos.run(seed, faults, inside)
    except Exception:
        found = Found(wrong=traceback.format_exc())
    told = found.wrong or f"right, {found.resumes} resumes, {found.doubled} episodes run twice"
    where = ", in containers" * inside + f", {found.others} nodes down beside it" * bool(found.others)
    print(f"seed {seed}{where}: {told}; {', '.join(found.faults)}; {time.monotonic() - begin:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
