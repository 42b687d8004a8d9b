"""How a process notices that whoever supervises it is gone, wherever it runs.

The kernel's parent-death signal does not survive the way into a container. A pipe does: the supervisor holds one end,
the process has the other as its standard input, which ends with the supervisor.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any, Dict, Optional

SUPERVISOR = "VLAEVAL_HPC_SUPERVISOR"


def variable(identity: Dict[str, Any]) -> Dict[str, str]:
    """What a supervisor sets for a process that it hands the pipe to: who it is, and when it starts it."""
    return {SUPERVISOR: json.dumps({**identity, "since": time.time()})}


def supervisor() -> Optional[Dict[str, Any]]:
    """Who supervises this process, None where nobody does."""
    found: Optional[Dict[str, Any]] = json.loads(os.environ.get(SUPERVISOR, "null"))
    return found


def hold() -> None:
    """From now on SIGTERM comes when the supervisor is gone; nothing where there is none."""
    if supervisor() is not None:
        threading.Thread(target=_wait, name="lifeline", daemon=True).start()


def _wait() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        return  # no pipe: there is nothing to learn from it
    os.kill(os.getpid(), signal.SIGTERM)
