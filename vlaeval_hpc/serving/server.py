"""A policy behind a WebSocket, from bind to end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import secrets
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Policy
from vlaeval_hpc.run.job import job_name
from vlaeval_hpc.run.rendezvous import HEARTBEAT, Rendezvous, beat
from vlaeval_hpc.serving.batching import Batcher
from vlaeval_hpc.serving.http import Gate
from vlaeval_hpc.serving.metrics import Metrics
from vlaeval_hpc.serving.openpi import PATH, POLICY_FAILED, OpenpiHandler, PolicyFailed
from vlaeval_hpc.serving.session import SessionHandler
from vlaeval_hpc.wire.codec import MAX_FRAME, WireError
from vlaeval_hpc.wire.messages import ERROR, Message

log = logging.getLogger(__name__)

SEND_TIMEOUT = 60.0  # a client that does not read its answer for so long is gone
CLOSE_TIMEOUT = 0.5  # for a client's answer to our goodbye; one that does not listen is not waited for
LARGEST_BACKLOG = 1 << 20  # bytes unread by a client: answers are awaited, so these answer a flood of pings
BACKLOG = 1024  # connections not yet accepted: a whole job array may start at once
BAD_DATA = 1007
SIOCGIFADDR = 0x8915  # netdevice(7)
LOOK_EVERY = 5.0  # seconds without a session after which the server looks whether all is finished

# After a minute without a sign of life the kernel asks, and after another it gives the connection up: by this the
# sessions of a node that lost its power end. WebSocket pings cannot tell, since a simulator that computes answers none.
KEEPALIVE = (("SO_KEEPALIVE", 1), ("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


@dataclass
class Place:
    """Where a server listens, and where it tells so.

    `port` 0 takes a free one. `rendezvous` is the file to publish, `stop` the file whose appearance ends the server;
    the server makes it itself once `finished` says that no item is left. `idle` is made when no shard came for
    `idle_timeout` seconds.
    """

    host: str = "127.0.0.1"
    port: int = 0
    run: str = ""
    replica: int = 0
    rendezvous: Path | None = None
    stop: Path | None = None
    finished: Callable[[], bool] | None = None
    idle: Path | None = None
    idle_timeout: float | None = None
    token: str = field(default_factory=lambda: os.environ.get("VLAEVAL_HPC_TOKEN") or secrets.token_urlsafe(32))


class PolicyServer:
    """Serves one policy until told to end.

    `model` is that section of the config: chunk_size, action_ensemble, ema_alpha, max_batch_size, max_wait_time.
    """

    def __init__(self, name: str, policy: Policy, model: dict[str, Any], place: Place) -> None:
        self._name = name
        self._policy = policy
        self._model = model
        self._place = place
        self._nonce = secrets.token_hex(16)
        self._metrics = Metrics()
        self._sessions: dict[ServerConnection, SessionHandler] = {}
        self._batcher = Batcher(
            policy,
            self._metrics,
            max_batch_size=model.get("max_batch_size", 1),
            max_wait_time=model.get("max_wait_time", 0.0),
            crowd=lambda: sum(s.in_episode for s in self._sessions.values()) or 1,
        )
        self._gate = Gate(place.token, self._nonce, self._batcher, self._metrics)
        self._end = asyncio.Event()

    async def run(self, announce: Callable[[Rendezvous], None]) -> None:
        """Bind, load, announce, serve; returns after SIGTERM, SIGINT, SIGUSR2, the stop file or the idle limit.

        Raises ConfigurationError where the port is taken, and what the policy's `load` raises.
        """
        _raise_file_limit()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            loop.add_signal_handler(number, self._end.set)
        listening = await self._listen()
        batching = asyncio.create_task(self._batcher.run())
        ended = asyncio.create_task(self._end.wait())
        try:
            loading = asyncio.create_task(self._batcher.call(self._policy.load))
            await asyncio.wait((loading, ended), return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                return
            loading.result()
            self._gate.ready = True
            announce(self._publish(listening.sockets[0].getsockname()[1]))
            await self._serve(ended, batching)
        finally:
            listening.close()
            # Those who wait for an answer see the connection close, and ask again where a server is.
            batching.cancel()
            await asyncio.wait((batching, asyncio.ensure_future(listening.wait_closed())), timeout=2 * CLOSE_TIMEOUT)

    async def _listen(self) -> Server:
        try:
            listening: Server = await serve(
                self._connection,
                self._place.host,
                self._place.port,
                process_request=self._gate,
                compression=None,
                max_size=MAX_FRAME,
                max_queue=2,
                ping_interval=None,
                close_timeout=CLOSE_TIMEOUT,
                server_header=None,
                logger=logging.getLogger("websockets.quiet"),
                backlog=BACKLOG,
            )
        except (OSError, OverflowError) as error:
            where = f"{self._place.host}:{self._place.port}"
            raise ConfigurationError(f"server.host, server.port: cannot listen on {where}: {error}") from error
        for one in listening.sockets:
            for name, value in KEEPALIVE:  # accepted connections inherit these
                if hasattr(socket, name):
                    level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
                    one.setsockopt(level, getattr(socket, name), value)
        return listening

    async def _serve(self, ended: asyncio.Task[Any], batching: asyncio.Task[None]) -> None:
        place = self._place
        last_busy = last_beat = last_look = time.monotonic()
        while not ended.done():
            if batching.done():
                batching.result()  # raises what broke it
            now = time.monotonic()
            if place.rendezvous is not None and now - last_beat >= HEARTBEAT:
                beat(place.rendezvous)
                last_beat = now
            if self._sessions:
                last_busy = last_look = now
            if place.idle_timeout is not None and now - last_busy > place.idle_timeout:
                log.info("no shard for %.0f s: ending", now - last_busy)
                if place.idle is not None:
                    place.idle.touch()
                if place.rendezvous is not None:
                    place.rendezvous.unlink(missing_ok=True)
                return
            if place.stop is not None and place.stop.exists():
                return
            if not self._sessions and now - last_look >= LOOK_EVERY:
                last_look = now
                if place.stop is not None and place.finished is not None and place.finished():
                    log.info("every item is finished: ending")
                    place.stop.touch()  # for the other replicas, and for shards that come late
                    return
            for connection in list(self._sessions):
                if connection.transport.get_write_buffer_size() > LARGEST_BACKLOG:
                    connection.transport.abort()
            await asyncio.wait((ended, batching), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)

    def _publish(self, port: int) -> Rendezvous:
        place = self._place
        rendezvous = Rendezvous(
            run=place.run,
            replica=place.replica,
            urls=[f"ws://{_bracketed(a)}:{port}" for a in addresses(place.host)],
            token=place.token,
            nonce=self._nonce,
            host=socket.gethostname(),
            pid=os.getpid(),
            job=job_name(),
        )
        if place.rendezvous is not None:
            rendezvous.publish(place.rendezvous)
        return rendezvous

    async def _connection(self, connection: ServerConnection) -> None:
        session = SessionHandler(self._name, self._policy, self._batcher, self._metrics, self._model)
        self._sessions[connection] = session
        self._metrics.sessions += 1
        try:
            if connection.request is not None and urlsplit(connection.request.path).path == PATH:
                await _converse_openpi(connection, OpenpiHandler(session, self._policy.observation_spec))
            else:
                await _converse(connection, session)
        except (ConnectionClosed, UnicodeDecodeError):
            pass  # the second is how older versions of websockets take text that is none
        except Exception:
            log.exception("a session broke")  # ours: what a policy raises is answered
            raise
        finally:
            del self._sessions[connection]
            self._metrics.sessions -= 1
            session.leave()


async def _converse(connection: ServerConnection, session: SessionHandler) -> None:
    async for data in connection:
        try:
            message = await _unpack(data)
        except WireError as error:
            await _send(connection, Message(ERROR, {"error": str(error)}).pack())
            await connection.close(BAD_DATA, _reason(error))
            return
        answer = await session.handle(message)
        if answer is not None:
            await _send(connection, answer.pack())


async def _converse_openpi(connection: ServerConnection, handler: OpenpiHandler) -> None:
    await _send(connection, await handler.metadata())
    async for data in connection:
        try:
            await _send(connection, await handler.handle(data if isinstance(data, bytes) else data.encode()))
        except (WireError, PolicyFailed) as error:
            # As such a client has it: whatever the error is, a text frame and the end.
            await _send(connection, str(error))
            await connection.close(BAD_DATA if isinstance(error, WireError) else POLICY_FAILED, _reason(error))
            return


def _reason(error: Exception) -> str:
    # A close frame has room for 123 bytes of text.
    return str(error).encode("ascii", "replace")[:120].decode()


async def _send(connection: ServerConnection, frame: bytes | str) -> None:
    # Not wait_for: a send that is cancelled half-way leaves the connection in no state to be closed in order.
    deadline = asyncio.get_running_loop().call_later(SEND_TIMEOUT, connection.transport.abort)
    try:
        await connection.send(frame)
    finally:
        deadline.cancel()


async def _unpack(data: str | bytes) -> Message:
    if isinstance(data, str):
        raise WireError("a text frame: messages are binary")
    if b"__image__" in data:  # unpacking a picture takes milliseconds that other sessions need
        return await asyncio.to_thread(Message.unpack, data)
    return Message.unpack(data)


def addresses(host: str) -> list[str]:
    """Addresses by which a server bound to `host` may be reached, the likeliest first."""
    if host not in ("", "0.0.0.0", "::"):
        return [host]
    found: list[str] = []
    with contextlib.suppress(OSError):
        for info in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM):
            found.append(str(info[4][0]))
    with contextlib.suppress(OSError):
        # No packet is sent: the kernel only chooses the interface that leads outwards.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            found.append(str(probe.getsockname()[0]))
    found += _interfaces()
    # Loopback last: from another node it is that node itself; the nonce tells.
    ordered = [a for a in found if not a.startswith("127.") and a != "::1"] + ["127.0.0.1"]
    return [socket.gethostname(), *dict.fromkeys(ordered)] if len(ordered) > 1 else ["127.0.0.1"]


def _interfaces() -> list[str]:
    """The IPv4 address of each interface: a node may have one for the cluster's network and one for InfiniBand."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it is down, or has none
                answer = fcntl.ioctl(any_socket, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
