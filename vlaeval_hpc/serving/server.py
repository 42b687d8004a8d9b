"""A policy behind a WebSocket, from bind to end."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.policies.base import Policy
from vlaeval_hpc.run.files import FILES_AWAY
from vlaeval_hpc.run.job import job_name
from vlaeval_hpc.run.rendezvous import HEARTBEAT, Rendezvous, beat
from vlaeval_hpc.serving.addresses import addresses, url
from vlaeval_hpc.serving.batching import Batcher
from vlaeval_hpc.serving.content import check_unchanged
from vlaeval_hpc.serving.conversation import converse, leave
from vlaeval_hpc.serving.drain import GRACE, Drain
from vlaeval_hpc.serving.http import Gate
from vlaeval_hpc.serving.memory import keep_freed_memory
from vlaeval_hpc.serving.metrics import Metrics
from vlaeval_hpc.serving.receiver import Receiver
from vlaeval_hpc.serving.session import SessionHandler
from vlaeval_hpc.wire.codec import MAX_FRAME

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 0.5  # for a client's answer to our goodbye; one that does not listen is not waited for
LARGEST_BACKLOG = 1 << 20  # bytes unread by a client: answers are awaited, so these answer a flood of pings
BACKLOG = 1024  # connections not yet accepted: a whole job array may start at once
DRAIN_POLL = 0.1  # seconds between two looks whether every episode is over
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

    `model` is that section of a plan: chunk_size, action_ensemble, ema_alpha, max_batch_size, max_wait_time, and
    `files`, what the checkpoint's held then; of a config, without these.
    """

    def __init__(self, name: str, policy: Policy, model: dict[str, Any], place: Place) -> None:
        self._name = name
        self._policy = policy
        self._model = model
        self._place = place
        self._nonce = secrets.token_hex(16)
        self._metrics = Metrics()
        self._sessions: dict[Receiver, SessionHandler] = {}
        self._batcher = Batcher(
            policy,
            self._metrics,
            max_batch_size=model.get("max_batch_size", 1),
            max_wait_time=model.get("max_wait_time"),
            crowd=lambda: self._metrics.running or 1,
        )
        self._gate = Gate(place.token, self._nonce, self._batcher, self._metrics)
        self._drain = Drain()
        self._published: Rendezvous | None = None

    async def run(self, announce: Callable[[Rendezvous], None]) -> None:
        """Bind, load, announce, serve; returns after the stop file, the idle limit, or a signal (drain.GRACE).

        Raises ConfigurationError where the port is taken or the checkpoint has changed, and what `load` raises.
        """
        _raise_file_limit()
        keep_freed_memory()
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in GRACE:
                loop.add_signal_handler(number, self._drain.begin, number)
        listening = await self._listen()
        batching = asyncio.create_task(self._batcher.run())
        told = asyncio.create_task(self._drain.begun.wait())
        try:
            loading = self._batcher.call(self._load)
            await asyncio.wait((loading, told), return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                return
            loading.result()
            self._gate.ready = True
            announce(await self._publish(listening.sockets[0].getsockname()[1], told))
            await self._serve(told, batching)
            await self._finish(batching)
        finally:
            listening.close()
            # Those who wait for an answer see the connection close, and ask again where a server is.
            batching.cancel()
            await asyncio.wait((batching, asyncio.ensure_future(listening.wait_closed())), timeout=2 * CLOSE_TIMEOUT)

    def _load(self) -> None:
        planned = self._model.get("files")
        self._policy.load()
        if planned:  # looked at afterwards: it may have been overwritten while it was read
            check_unchanged(self._policy.files(), planned)

    async def _listen(self) -> Server:
        try:
            listening: Server = await serve(
                self._connection,
                self._place.host,
                self._place.port,
                process_request=self._gate,
                create_connection=Receiver,
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

    async def _serve(self, told: asyncio.Task[Any], batching: asyncio.Task[None]) -> None:
        """Until a signal came, or all is over."""
        place = self._place
        last_busy = last_beat = last_look = time.monotonic()
        while not told.done():
            if batching.done():
                batching.result()  # raises what broke it
            now = time.monotonic()
            if place.rendezvous is not None and now - last_beat >= HEARTBEAT:
                if self._published is not None:
                    beat(place.rendezvous, self._published)
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
            await asyncio.wait((told, batching), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)

    async def _finish(self, batching: asyncio.Task[None]) -> None:
        """After a signal: until the running episodes are over, within the grace."""
        if not self._drain.begun.is_set() or not self._drain.left:
            return
        place = self._place
        if place.rendezvous is not None and self._published is not None:
            # First: a shard that looks before it begins an episode does not begin one in vain.
            with suppress(InfrastructureError):  # then shards learn it from us
                await asyncio.to_thread(replace(self._published, draining=True).publish, place.rendezvous)
        self._gate.draining = self._drain.refusing = True
        idle = [connection for connection, session in self._sessions.items() if not session.busy]
        goodbyes = asyncio.gather(*(leave(connection) for connection in idle))
        log.info("draining: %d episodes are running, %.0f s left", len(self._sessions) - len(idle), self._drain.left)
        while self._sessions and self._drain.left and not (place.stop is not None and place.stop.exists()):
            if batching.done():
                batching.result()
            await asyncio.wait((batching,), timeout=min(DRAIN_POLL, self._drain.left))
        await asyncio.wait((goodbyes,), timeout=CLOSE_TIMEOUT)

    async def _publish(self, port: int, told: asyncio.Task[Any]) -> Rendezvous:
        place = self._place
        rendezvous = Rendezvous(
            run=place.run,
            replica=place.replica,
            urls=[url(a, port) for a in addresses(place.host)],
            token=place.token,
            nonce=self._nonce,
            host=socket.gethostname(),
            pid=os.getpid(),
            job=job_name(),
        )
        deadline = time.monotonic() + FILES_AWAY
        while place.rendezvous is not None:
            try:
                rendezvous.publish(place.rendezvous)
                break
            except InfrastructureError as error:
                if told.done() or time.monotonic() > deadline:
                    raise
                log.warning("%s: again in %.0f s", error, HEARTBEAT)
            await asyncio.wait((told,), timeout=HEARTBEAT)
        self._published = rendezvous
        return rendezvous

    async def _connection(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Receiver)
        session = SessionHandler(self._name, self._policy, self._batcher, self._metrics, self._model)
        self._sessions[connection] = session
        self._metrics.sessions += 1
        try:
            await converse(connection, session, self._policy.observation_spec, self._drain)
        except Exception:
            log.exception("a session broke")  # ours: what a policy raises is answered
            raise
        finally:
            del self._sessions[connection]
            self._metrics.sessions -= 1
            session.end()


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
