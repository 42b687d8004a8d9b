"""The page of a results root: its runs and sweeps."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from vlaeval_hpc.results.index import Index
from vlaeval_hpc.results.pages.page import render
from vlaeval_hpc.results.status import STATES


def root_page(index: Index, target: Path) -> str:
    """HTML of an index, the latest run first; it links the pages that runs and sweeps have, as seen from `target`."""
    runs = sorted(index.runs, key=lambda entry: -entry.changed_at)
    states = Counter(entry.state for entry in runs)
    return render(
        "root",
        name=index.root.resolve().name,
        runs=[(entry, _link(index, entry.path, "report.html", target)) for entry in runs],
        sweeps=[(path, _link(index, path, "sweep.html", target)) for path in index.sweeps],
        states=[(state, states[state]) for state in STATES if states[state]],
        problems=index.problems,
    )


def _link(index: Index, path: str, page: str, target: Path) -> str:
    file = os.path.join(index.root, path, page)
    return quote(os.path.relpath(file, target.parent)) if os.path.exists(file) else ""
