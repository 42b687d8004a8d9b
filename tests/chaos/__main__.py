"""Evaluations on the one-machine cluster while everything breaks; as root: `python -m tests.chaos --seed 1 --runs 200`

Each run submits an evaluation of doubles, does at random what clusters do, and asks whether the merged episodes are
those of an undisturbed run: none lost, none doubled, none changed. Where jobs were killed for good, `resume` finishes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.chaos.run import Chaos
from tests.cluster.conftest import bring_up


def main() -> int:
    """Exit status 0 where every run was right."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next have the next numbers")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--faults", type=int, default=4, help="in each run")
    arguments = parser.parse_args()
    chaos = Chaos(bring_up())
    wrong = 0
    met: Counter[str] = Counter()
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        begin = time.monotonic()
        found = chaos.run(seed, arguments.faults)
        met.update(found.faults)
        wrong += bool(found.wrong)
        told = found.wrong or f"right, {found.resumes} resumes, {found.doubled} episodes run twice"
        print(f"seed {seed}: {told}; {', '.join(found.faults)}; {time.monotonic() - begin:.0f} s", flush=True)
    print(f"{arguments.runs - wrong} of {arguments.runs} runs right; {dict(met)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
