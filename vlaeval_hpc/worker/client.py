"""The shard's side of the protocol: find a server, greet it, ask for actions."""

from __future__ import annotations

import json
import queue
import threading
import time
import urllib.request
from http.client import HTTPException
from typing import Any, Callable, Dict, List, Optional
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vlaeval_hpc.errors import ConfigurationError, EpisodeError, InfrastructureError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.codec import MAX_FRAME, WireError
from vlaeval_hpc.wire.messages import Message
from vlaeval_hpc.wire.pictures import packed
from vlaeval_hpc.wire.specs import RGB, Spec, Specs
from vlaeval_hpc.worker.websocket import WebSocket

POLL = 1.0  # seconds between two looks at the shared file system, and between two signs of life
BAD_DATA, TOO_BIG = 1007, 1009  # close codes of a server that could not read us


class ServerLost(InfrastructureError):
    """The connection broke; the episode in flight is to be done again."""


class ServerGone(InfrastructureError):
    """No server will come any more."""


class Client:
    """A connection to whichever replica answers, made anew after it breaks.

    `alive` is called at least every POLL seconds while waiting, with what is waited for.
    """

    def __init__(
        self, run: RunDirectory, run_id: str, shard: int, server: Dict[str, Any], alive: Callable[[str], None]
    ) -> None:
        self._run = run
        self._run_id = run_id
        self._shard = shard
        self._answer_timeout = float(server["answer_timeout"])
        self._wait_timeout = server["wait_timeout"]
        self._codec = server.get("codec", "raw")
        self._packs = False
        self._alive = alive
        self._socket: Optional[WebSocket] = None
        self._server: Optional[Rendezvous] = None
        self._url = ""
        self._seq = 0
        self._start_seq = -1
        self.info: Dict[str, Any] = {}

    @property
    def connected(self) -> bool:
        """Whether a server was greeted and has not been lost since."""
        return self._socket is not None

    def connect(self, benchmark: str) -> None:
        """Wait for a server and greet it.

        Raises ServerGone where none will come, or none came in wait_timeout (None: it waits on); ConfigurationError
        where one is there that cannot be talked to: it wants another token, or speaks another version of the protocol.
        """
        begin = time.monotonic()
        pause = 0.1
        while True:
            for rendezvous in self._candidates():
                if self._try(rendezvous, benchmark):
                    return
            if self._run.stop.exists():
                raise ServerGone("the run was stopped: no policy server will come")
            if self._wait_timeout is not None and time.monotonic() - begin > self._wait_timeout:
                raise ServerGone(f"no policy server answered for {self._wait_timeout:.0f} s (server.wait_timeout)")
            self._alive("server")
            time.sleep(pause)
            pause = min(POLL, pause * 1.5)

    def leave_draining(self) -> None:
        """Between episodes: close the connection to a server that takes no new one, or is there no more."""
        if self._socket is None or self._server is None:
            return
        found = Rendezvous.read(self._run.rendezvous(self._server.replica))
        replaced = found is not None and (found.draining or found.nonce != self._server.nonce)
        if replaced or not self._socket.is_open():
            self.drop()

    def start(self, task: Dict[str, Any], mode: Optional[str] = None) -> None:
        """Tell that an episode begins; `mode` as vla-eval has it: live, or None. Raises ServerLost."""
        self._start_seq = self._send(wire.EPISODE_START, {"task": task, **({"mode": mode} if mode else {})})

    def act(self, observation: Dict[str, Any]) -> "np.ndarray[Any, Any]":
        """The actions to take, (k, dim) float.

        Raises EpisodeError where the observation cannot be sent, the policy failed or did not answer in time;
        ServerLost where the connection broke, or the server is not there any more.
        """
        try:
            seq = self._send(wire.OBSERVATION, packed(observation) if self._packs else observation)
        except TypeError as error:
            raise EpisodeError("simulator_step", f"the benchmark's observation: {error}") from error
        deadline = time.monotonic() + self._answer_timeout
        while True:
            answer = self._receive(deadline)
            if answer is None:
                # The answer may still come; whoever asks next must not take it for his own.
                self.drop()
                if not self._there():
                    raise ServerLost(f"the server does not answer any more, nor does its /health: {self._url}")
                raise EpisodeError("server_timeout", f"no answer in {self._answer_timeout:g} s (server.answer_timeout)")
            # vla-eval tells so that the start failed, and goes on to answer as if it had not.
            failed_start = answer.type == wire.ERROR and answer.seq == self._start_seq
            if answer.seq != seq and not failed_start:
                continue  # an answer that came after its question was given up
            if answer.type == wire.ERROR:
                raise EpisodeError("policy_error", str(answer.payload.get("error", answer.payload)))
            actions = _as_array(answer.payload.get("actions"))
            if answer.type != wire.ACTION or actions.dtype.kind not in "iuf" or actions.ndim not in (1, 2):
                raise EpisodeError(
                    "policy_error", f"the server answered with {answer.type}, no action (dim,) or (k, dim)"
                )
            return np.atleast_2d(actions)

    def end(self, result: Dict[str, Any]) -> None:
        """Tell that the episode is over. A server that is lost by now has nothing to say to that."""
        try:
            self._send(wire.EPISODE_END, result)
        except (ServerLost, EpisodeError, TypeError):
            pass

    def drop(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            try:
                self._socket.close()
            except Exception:
                pass
            self._socket = None

    def _candidates(self) -> List[Rendezvous]:
        """Published replicas that take this run's episodes, a shard's own first, so that shards spread and stay."""
        found = [Rendezvous.read(p) for p in sorted(self._run.server.glob("rendezvous-*.json"))]
        mine = [r for r in found if r is not None and r.run == self._run_id and not r.draining]
        turn = self._shard % len(mine) if mine else 0
        return mine[turn:] + mine[:turn]

    def _try(self, rendezvous: Rendezvous, benchmark: str) -> bool:
        # Without a nonce it is a server that is not ours, at the one address that we were given.
        for url in _first_known(rendezvous.urls, rendezvous.nonce) if rendezvous.nonce else rendezvous.urls:
            try:
                self._socket = WebSocket(url, rendezvous.token, MAX_FRAME, POLL)
                offered = {wire.CHUNKS: True, **({wire.IMAGES: self._codec} if self._codec != "raw" else {})}
                seq = self._send(wire.HELLO, wire.hello(benchmark=benchmark, capabilities=offered))
                reply = self._receive(time.monotonic() + self._answer_timeout, "server")
                if reply is not None and reply.type == wire.HELLO and reply.seq == seq:
                    version = reply.payload.get("protocol_version")
                    if version not in (None, wire.PROTOCOL_VERSION):
                        raise ConfigurationError(
                            f"the server at {url} speaks protocol version {version}: valid: {wire.PROTOCOL_VERSION}"
                        )
                    # It goes into result files: what JSON does not know becomes text.
                    self.info = json.loads(json.dumps(reply.payload, default=str))
                    granted = reply.payload.get("capabilities")
                    self._packs = isinstance(granted, dict) and granted.get(wire.IMAGES) == "png"
                    self._server, self._url = rendezvous, url
                    return True
            except InvalidStatus as error:
                if error.response.status_code in (401, 403):
                    raise ConfigurationError(
                        f"the server at {url} does not know the token: ?token= in server.url, or VLAEVAL_HPC_TOKEN"
                    ) from error
            except ConfigurationError:
                raise
            except Exception:
                pass  # whatever it is that listens there: websockets itself stumbles over some that are no WebSocket
            self.drop()
        return False

    def _there(self) -> bool:
        """Whether the server that we greeted still answers at its address."""
        found = _health(self._url)
        wanted = self._server.nonce if self._server else ""
        return found is not None and (not wanted or found.get("nonce") == wanted)

    def _send(self, kind: str, payload: Dict[str, Any]) -> int:
        if self._socket is None:
            raise ServerLost("not connected")
        self._seq += 1
        frame = Message(kind, payload, self._seq).pieces()
        try:
            self._socket.send(frame)
        except (ConnectionClosed, OSError) as error:
            raise self._broken(error) from error
        return self._seq

    def _receive(self, deadline: float, phase: str = "policy") -> Optional[Message]:
        assert self._socket is not None
        while time.monotonic() < deadline:
            self._alive(phase)
            try:
                data = self._socket.receive()
            except (ConnectionClosed, OSError, UnicodeDecodeError) as error:
                raise self._broken(error) from error
            if data is None:
                continue
            try:
                return Message.unpack(data if isinstance(data, bytes) else data.encode())
            except WireError as error:
                self.drop()
                raise ServerLost(f"the server sent what is no message: {error}") from error
        return None

    def _broken(self, error: Exception) -> Exception:
        self.drop()
        frame = getattr(error, "rcvd", None)
        if frame is not None and frame.code in (BAD_DATA, TOO_BIG):
            # To send it again would end the same way, for ever.
            return EpisodeError("policy_error", f"the server does not take the message: {error}")
        return ServerLost(f"the connection to the server broke: {error}")


def server_specs(info: Dict[str, Any], key: str) -> Specs:
    """`action_spec` or `observation_spec` of a HELLO; empty where the server declares none that can be read.

    vla-eval's servers name images as they like ("image", "wrist_image"), not as a benchmark's cameras: where one wants
    images, only its `observation_params` tell which.
    """
    try:
        specs = {str(k): Spec.from_dict(v) for k, v in info.get(key, {}).items()}
    except (ValueError, AttributeError):
        return {}
    ours = str(info.get("harness_version", "")).endswith(wire.HARNESS_MARK)
    if key == "observation_spec" and not ours and any(spec.format == RGB.format for spec in specs.values()):
        return {}
    return specs


def _as_array(value: Any) -> "np.ndarray[Any, Any]":
    try:
        return np.asarray(value)
    except ValueError:  # lists of unequal length
        return np.asarray(None)


def _first_known(urls: List[str], nonce: str) -> List[str]:
    """The first address at which the server with this nonce answers, if there is one: the others may be of networks
    that do not reach us, and take their time, or another node's own."""
    answers: "queue.Queue[Optional[str]]" = queue.Queue()

    def ask(url: str) -> None:
        found = _health(url) or {}
        # Else nobody, one that loads or drains, or somebody else's server.
        known = found.get("nonce") == nonce and found.get("status") == "ok"
        answers.put(url if known else None)

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    for _ in urls:
        found = answers.get()
        if found is not None:
            return [found]
    return []


def _health(url: str) -> Optional[Dict[str, Any]]:
    """What /health says, empty where that is nothing of ours or of vla-eval's, None where nobody answers."""
    parts = urlsplit(url)
    address = urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, "/health", "", ""))
    # A cluster's http_proxy is for the outside; compute nodes talk to each other directly.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with _answer(opener, address) as response:
            found = json.loads(response.read(4096))
    except (HTTPException, ValueError):
        return {}
    except OSError:
        return None
    return found if isinstance(found, dict) else {}


def _answer(opener: Any, address: str) -> Any:
    try:
        return opener.open(address, timeout=5)
    except HTTPError as error:
        return error  # it can be read: of a server that loads or drains, 503 is the word
