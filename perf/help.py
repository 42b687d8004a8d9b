"""How long `python -m vlaeval_hpc --help` takes, beside an interpreter that does nothing: promised under 0.5 s."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
PROMISED = 0.5
RUNS = 15


def seconds(*arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> int:
    pairs = [(seconds("-m", "vlaeval_hpc", "--help"), seconds("-c", "pass")) for _ in range(RUNS)]
    mine, nothing = (median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    print(f"--help {mine:.3f} s (promised under {PROMISED} s), an empty interpreter {nothing:.3f} s,")
    print(f"ratio {median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) over {RUNS} pairs")
    return 0 if mine < PROMISED else 1


if __name__ == "__main__":
    sys.exit(main())
