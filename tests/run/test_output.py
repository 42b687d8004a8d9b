"""A full disk stops no print; what can be printed again is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import os, sys
from vlaeval_hpc.run.output import print_what_fits
{tolerant}
for _ in range(3):
    print("a line", flush=True)
    print("another", file=sys.stderr)
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 1)
print("there is room again")
"""


@pytest.mark.parametrize("tolerant", [True, False])
def test_a_full_disk(tmp_path: Path, tolerant: bool) -> None:
    code = PRINTS.format(tolerant="print_what_fits()" if tolerant else "")
    log = tmp_path / "log"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code, str(log)], stdout=full, stderr=full, env=os.environ)
    assert (done.returncode == 0) is tolerant
    assert not tolerant or log.read_text() == "there is room again\n"
