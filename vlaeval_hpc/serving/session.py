"""One connection: the protocol's server side, from messages to answers, without I/O of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import uuid
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from vlaeval_hpc.policies.base import Policy, Session
from vlaeval_hpc.serving.batching import Batcher, Request
from vlaeval_hpc.serving.chunks import ActionQueue, Actions
from vlaeval_hpc.serving.metrics import Metrics
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message

log = logging.getLogger(__name__)

LONGEST_ERROR = 4000

Reply = Callable[[Message | None], None]


class SessionHandler:
    """Answers one client's messages in turn. It sees no other session's state."""

    def __init__(self, name: str, policy: Policy, batcher: Batcher, metrics: Metrics, model: dict[str, Any]) -> None:
        self._name = name
        self._policy = policy
        self._batcher = batcher
        self._metrics = metrics
        self._chunk_size: int | None = model.get("chunk_size")
        self._queue = ActionQueue(model.get("action_ensemble", "newest"), model.get("ema_alpha", 0.5))
        self._session = Session(id=uuid.uuid4().hex)
        self._whole_chunks = False
        self._failed_start = ""
        self._logged: type[Exception] | None = None
        self._reply: Reply | None = None
        self._asked: Request | None = None
        self._in_episode = False

    def handle(self, message: Message, reply: Reply) -> None:
        """Have `reply` called with the answer, None where the protocol has none. One message after the other."""
        self._reply = reply
        if message.type == wire.OBSERVATION:
            self._act(message)
        elif message.type == wire.HELLO:
            self._done(Message(wire.HELLO, self._hello(message.payload), message.seq))
        elif message.type == wire.EPISODE_START:
            self._start(message.payload)
        else:
            if message.type == wire.EPISODE_END:
                self.leave()
            self._done(None)

    @property
    def busy(self) -> bool:
        """Whether an episode runs, or a message waits for its answer."""
        return self.in_episode or self._reply is not None

    @property
    def in_episode(self) -> bool:
        """Whether an episode runs."""
        return self._in_episode

    def _done(self, answer: Message | None) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(answer)

    def end(self) -> None:
        """The client is gone: nothing is predicted for it any more."""
        self._reply = None
        if self._asked is not None:
            self._batcher.forget(self._asked)
            self._asked = None
        self.leave()

    def leave(self) -> None:
        """No observation comes for now: nobody needs to wait for this session."""
        self._set_in_episode(False)
        self._batcher.left(self._session)

    def _hello(self, payload: dict[str, Any]) -> dict[str, Any]:
        offered = payload.get("capabilities")
        offered = offered if isinstance(offered, dict) else {}
        # Ensembles look at every frame, whatever the client could do without.
        self._whole_chunks = bool(offered.get(wire.CHUNKS)) and not self._queue.looks_always
        granted: dict[str, Any] = {wire.CHUNKS: True} if self._whole_chunks else {}
        if offered.get(wire.IMAGES) == "png" and importlib.util.find_spec("PIL") is not None:
            granted[wire.IMAGES] = "png"
        observation = self._policy.observation_spec
        # What vla-eval's benchmarks send only when they are asked to.
        asked = {"send_wrist_image": "wrist" in observation, "send_state": "state" in observation}
        return wire.hello(
            model_server=self._name,
            capabilities=granted,
            action_spec={k: s.to_dict() for k, s in self._policy.action_spec.items()},
            observation_spec={k: s.to_dict() for k, s in observation.items()},
            observation_params={k: True for k, wanted in asked.items() if wanted},
        )

    def _set_in_episode(self, value: bool) -> None:
        self._metrics.running += value - self._in_episode
        self._in_episode = value

    def _start(self, payload: dict[str, Any]) -> None:
        task = payload.get("task")
        task = task if isinstance(task, dict) else {}
        seed = task.get("seed")
        if type(seed) is not int or seed < 0:
            # Other clients send none: the task decides, so that the same episode gets the same.
            seed = zlib.crc32(json.dumps(task, sort_keys=True, default=str).encode())
        self._queue.clear()
        self._session = Session(id=self._session.id, task=task, seed=seed)
        self._failed_start = ""
        self._set_in_episode(True)
        self._metrics.episodes += 1
        self._batcher.call(self._policy.reset, self._session).add_done_callback(self._started)

    def _started(self, done: asyncio.Future[None]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, Exception):
            # episode_start has no answer: the observations get it.
            self._failed_start = self._told("reset", error)
        self._done(None)

    def _act(self, message: Message) -> None:
        if self._failed_start:
            self._fail(message.seq, self._failed_start)
        elif self._queue.wants_look:
            # The observation is the batcher's alone: it is let go of as soon as it is predicted.
            then = partial(self._predicted, message.seq)
            told = message.payload.get("realtime")
            if isinstance(told, dict) and type(told.get("step")) is int:
                self._session.step = told["step"]  # time went on, whichever of our actions were taken
            self._asked = self._batcher.predict(message.payload, self._session, then)
        else:
            self._go_on(message.seq)

    def _predicted(self, seq: int, outcome: Actions | Exception) -> None:
        self._asked = None
        if not isinstance(outcome, Exception):
            try:
                self._queue.push(outcome[: self._chunk_size])
            except Exception as error:
                outcome = error
        if isinstance(outcome, Exception):
            self._fail(seq, self._told("predict", outcome))
        else:
            self._go_on(seq)

    def _fail(self, seq: int, failure: str) -> None:
        self._metrics.errors += 1
        self._done(Message(wire.ERROR, {"error": failure}, seq))

    def _go_on(self, seq: int) -> None:
        self._metrics.observations += 1
        actions = self._queue.take() if self._whole_chunks else self._queue.pop()
        self._session.step += len(actions) if self._whole_chunks else 1
        self._done(Message(wire.ACTION, {"actions": actions}, seq))

    def _told(self, where: str, error: Exception) -> str:
        """What the client hears of the policy's error; the log has the traceback of a session's first."""
        if type(error) is not self._logged:
            log.error("the policy failed in %s", where, exc_info=error)
            self._logged = type(error)
        # Quoted bytes of a file name, say, come as surrogates, which no message can carry.
        text = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
        return text[:LONGEST_ERROR]
