"""The one thread in which a policy is called."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class PolicyThread:
    """Does jobs one after the other. Whoever ends the process does not wait for it: a policy cannot be interrupted."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="policy", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> None:
        """Do it when those before are done; it raises nothing."""
        self._jobs.put(job)

    def end(self) -> None:
        """Do nothing more."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # with all that it holds, before the next one comes
