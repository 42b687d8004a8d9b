"""A model server of vla-eval's repository as a policy: its script in its own environment, started and watched over."""

from __future__ import annotations

import http.client
import inspect
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.policies import outside
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.codec import MAX_FRAME, WireError
from vlaeval_hpc.wire.messages import Message

log = logging.getLogger(__name__)

LOOK_EVERY = 0.2  # seconds between two looks at whether it answers
OPEN_TIMEOUT = 10.0
ENDING = 5.0  # seconds in which a script that closed its connections is gone, if it is
LOST = 75  # sysexits' EX_TEMPFAIL: whoever started us starts us again, and shards wait for that
# Becomes the script's process, which the kernel ends with the thread that started it.
WITH_US = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


class VlaEval(Policy):
    """Runs a model server's script with `uv run`, which makes the environment that the script names in its head.

    `config` is one of vla-eval's model server YAMLs, `script` the script where there is none; `args` goes to the class,
    before what the YAML says. `dim`, `cameras`, `state_dim`, `gripper` as for other servers: what is sent under the
    names that vla-eval's benchmarks use. It has `start_timeout` seconds to answer /health, and `timeout` for an answer.
    Where the script ends, so does the process that serves this policy, as if it had crashed.

    Each session has a connection of its own, since vla-eval's servers keep its chunk by the connection; observations of
    a batch are asked at once. Raises ConfigurationError for a file that is none, or where the script ends at its start.
    """

    connection = frozenset(("start_timeout", "timeout"))

    def __init__(
        self,
        *,
        checkpoint: str | None,
        dim: int,
        cameras: Sequence[str],
        state_dim: int = 0,
        config: str | None = None,
        script: str | None = None,
        args: dict[str, Any] | None = None,
        gripper: str = "as_is",
        start_timeout: float = 3600.0,
        timeout: float = 100.0,
    ) -> None:
        super().__init__(checkpoint=checkpoint)
        said, self._files = _read(Path(config).expanduser()) if config else ({}, [])
        found = script or said.get("script")
        if not found:
            raise ConfigurationError("model.params.config, .script: neither names a model server: valid: either")
        self._script = _script(str(found), self._files)
        given = {**(said.get("args") or {}), **(args or {})}
        self._args = {key: value for key, value in given.items() if key not in ("host", "port")}
        self._dim = dim
        self._cameras = list(cameras)
        self._state_dim = state_dim
        self._gripper = outside.check_gripper(gripper)
        self._start_timeout = start_timeout
        self._timeout = timeout
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: dict[str, Any] = {}
        self._seq = 0
        self.action_spec = outside.gives(dim)
        self.observation_spec = outside.looks(self._cameras, state_dim)

    def files(self) -> list[Path]:
        return [*self._files, self._script]

    def load(self) -> None:
        """Start the script and wait until it answers. Raises ConfigurationError where it ends or takes too long."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        words = [f"--args.{key}={_word(value)}" for key, value in self._args.items()]
        command = [_uv(), "run", "--script", str(self._script), "--host=127.0.0.1", f"--port={self._port}", *words]
        # Not our environment's: the script has its own.
        mine = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
        process = self._process = subprocess.Popen(
            [sys.executable, "-c", WITH_US, *command],
            env={key: value for key, value in os.environ.items() if key not in mine},
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + self._start_timeout
        while not self._healthy():
            status = process.poll()
            if status is not None:
                raise ConfigurationError(f"{self._script} ended with status {status} at its start: its words are above")
            if time.monotonic() > deadline:
                process.send_signal(signal.SIGTERM)
                raise ConfigurationError(
                    f"{self._script} did not answer /health in {self._start_timeout:g} s (model.params.start_timeout)"
                )
            time.sleep(LOOK_EVERY)
        threading.Thread(target=self._watch, daemon=True).start()

    def reset(self, session: Session) -> None:
        scalars = {k: v for k, v in session.task.items() if isinstance(v, (str, int, float, bool, list))}
        self._send(session, wire.EPISODE_START, {"task": scalars})

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        asked = [
            self._send(session, wire.OBSERVATION, self._told(seen))
            for seen, session in zip(observations, sessions, strict=True)
        ]
        return [self._answer(session, seq) for session, seq in zip(sessions, asked, strict=True)]

    def _told(self, seen: Observation) -> dict[str, Any]:
        told: dict[str, Any] = {"images": {camera: seen["images"][camera] for camera in self._cameras}}
        if self._state_dim:
            told["states"] = seen["states"]
        return {**told, "task_description": seen["task_description"]}

    def _send(self, session: Session, kind: str, payload: dict[str, Any]) -> int:
        if session.id not in self._sockets:
            self._sockets[session.id] = self._connected()
        self._seq += 1
        try:
            self._sockets[session.id].send(Message(kind, payload, self._seq).pack())
        except Exception as error:  # of websockets, or of the socket below it
            raise self._lost(session, error) from error
        return self._seq

    def _answer(self, session: Session, seq: int) -> NDArray[np.floating[Any]]:
        try:
            answer = Message.unpack(self._sockets[session.id].recv(timeout=self._timeout))
        except Exception as error:
            raise self._lost(session, error) from error
        if answer.seq != seq:
            raise self._lost(session, WireError(f"it answers message {answer.seq}, not {seq}"))
        if answer.type == wire.ERROR:
            raise RuntimeError(f"{self._script.name} failed: {answer.payload.get('error')!s:.2000}")
        return outside.actions(answer.payload.get("actions"), self._dim, self._gripper)

    def _connected(self) -> Any:
        from websockets.sync.client import connect

        options: dict[str, Any] = {"compression": None, "max_size": MAX_FRAME, "open_timeout": OPEN_TIMEOUT}
        # Newer versions of websockets read proxies from the environment, and ping; what infers answers none meanwhile.
        known = inspect.signature(connect).parameters
        options.update({key: None for key in ("ping_interval", "proxy") if key in known})
        try:
            made = connect(f"ws://127.0.0.1:{self._port}", **options).__enter__()
            self._seq += 1
            made.send(Message(wire.HELLO, wire.hello(), self._seq).pack())
            Message.unpack(made.recv(timeout=self._timeout))
        except Exception as error:
            raise InfrastructureError(f"{self._script.name} takes no connection: {error}") from error
        return made

    def _lost(self, session: Session, error: Exception) -> InfrastructureError:
        # What it answers late must not be taken for the next answer.
        try:
            self._sockets.pop(session.id).close()
        except Exception:
            pass
        if not isinstance(error, TimeoutError):
            self._leave_with_script()
        return InfrastructureError(f"{self._script.name} is lost: {type(error).__name__}: {error}")

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=OPEN_TIMEOUT)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _watch(self) -> None:
        assert self._process is not None
        status = self._process.wait()
        log.error("%s ended with status %s: so does its server", self._script.name, status)
        os._exit(LOST)

    def _leave_with_script(self) -> None:
        """Where the connection broke because the script ended: no answer, for the episode is to be done again."""
        assert self._process is not None
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            return
        os._exit(LOST)


def _read(path: Path) -> tuple[dict[str, Any], list[Path]]:
    """What a model server's YAML says, upon what it extends; and the files. Raises ConfigurationError."""
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(f"model=vla_eval needs pyyaml in model.environment.requirements: {error}") from error
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"model.params.config={path}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"model.params.config={path}: no map of script and args")
    base = found.pop("extends", None)
    if base is None:
        return found, [path]
    said, files = _read(path.parent / str(base))
    args = {**(said.get("args") or {}), **(found.get("args") or {})}
    return {**said, **found, "args": args}, [*files, path]


def _script(name: str, files: list[Path]) -> Path:
    """The script, where a YAML names it by its place in the repository. Raises ConfigurationError."""
    path = Path(name).expanduser()
    places = [path, *(folder / path for file in files for folder in file.absolute().parents)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ConfigurationError(f"model.params.script={name}: no such file: valid: a model server of vla-eval's")
    return found.absolute()


def _word(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return "null" if value is None else str(value)


def _uv() -> str:
    try:
        from uv import find_uv_bin
    except ImportError as error:
        raise ConfigurationError(f"model=vla_eval needs uv in model.environment.requirements: {error}") from error
    return find_uv_bin()
