"""The shard's hold on its simulator process: start, ask, notice that it hangs or died, end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional

from vlaeval_hpc.errors import ConfigurationError, EpisodeError, InfrastructureError
from vlaeval_hpc.run.plan import Item

BOOTSTRAP = Path(__file__).resolve().parent.parent / "bootstrap.py"
CHANNEL = "VLAEVAL_HPC_CHANNEL"


class Supervisor:
    """One simulator process at a time, started when an episode needs it; `number` tells it from the shard's others."""

    def __init__(self, run: Path, number: int, hang_timeout: float) -> None:
        self._arguments = [str(run), str(number), str(os.getpid())]
        self._hang_timeout = hang_timeout
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._channel: Optional[socket.socket] = None
        self._received = b""
        self._begun = self._heard = 0.0
        self.phase = ""
        """What the simulator says that it is doing."""
        self.server_info: Dict[str, Any] = {}

    def begin(self, item: Item) -> None:
        """Ask for an episode; `look` tells what came of it."""
        self._begun = self._heard = time.monotonic()
        self.phase = "starting"
        if self._process is None:
            self._start()
        assert self._channel is not None
        try:
            self._channel.sendall((json.dumps(item._asdict()) + "\n").encode())
        except OSError:
            pass  # it died: `look` sees the end

    def fileno(self) -> int:
        """What can be read from when there is something to see."""
        assert self._channel is not None
        return self._channel.fileno()

    def look(self) -> Optional[Dict[str, Any]]:
        """The episode's record, one of its end where the process hung or died; None while it runs. Does not wait.

        Raises ConfigurationError or InfrastructureError where the process says that no episode can be run.
        """
        try:
            return self._look()
        except EpisodeError as error:
            self.end()
            return {
                "metrics": {"success": False},
                "steps": 0,
                "elapsed_sec": round(time.monotonic() - self._begun, 3),
                "failure_reason": error.reason,
                "failure_detail": error.detail,
            }

    def end(self) -> None:
        """Kill the process, if there is one; a simulator has nothing to save."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._received = b""

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(BOOTSTRAP), "vlaeval_hpc.worker.simulator", *self._arguments],
                pass_fds=[theirs.fileno()],
                env={**os.environ, CHANNEL: str(theirs.fileno())},
                stdin=subprocess.DEVNULL,
            )

    def _look(self) -> Optional[Dict[str, Any]]:
        while select.select([self], [], [], 0.0)[0]:
            for message in self._read():
                self._heard = time.monotonic()
                self.phase = message.get("beat", self.phase)
                self.server_info = message.get("server", self.server_info)
                if "fatal" in message:
                    kind = ConfigurationError if message["code"] == 2 else InfrastructureError
                    raise kind(message["fatal"])
                if "episode" in message:
                    record: Dict[str, Any] = message["episode"]
                    return record
        if time.monotonic() - self._heard > self._hang_timeout:
            limit = f"{self._hang_timeout:g} s (benchmark.hang_timeout)"
            raise EpisodeError("simulator_hang", f"no sign of life for {limit}, last in: {self.phase}")
        return None

    def _read(self) -> Any:
        assert self._channel is not None
        try:
            data = self._channel.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            raise self._died()
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _died(self) -> EpisodeError:
        assert self._process is not None
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = ": out of memory?" if name == "SIGKILL" else ""
            return EpisodeError(
                "simulator_crash", f"the simulator process was ended by {name}{hint}, last in: {self.phase}"
            )
        return EpisodeError("simulator_crash", f"the simulator process ended with status {code}, last in: {self.phase}")
