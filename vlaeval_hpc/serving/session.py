"""One connection: the protocol's server side, from messages to answers, without I/O of its own."""

from __future__ import annotations

import json
import logging
import uuid
import zlib
from typing import Any

from vlaeval_hpc.policies.base import Policy, Session
from vlaeval_hpc.serving.batching import Batcher
from vlaeval_hpc.serving.chunks import ActionQueue
from vlaeval_hpc.serving.metrics import Metrics
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message

log = logging.getLogger(__name__)

LONGEST_ERROR = 4000


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
        self._handling = False
        self.in_episode = False

    async def handle(self, message: Message) -> Message | None:
        """The answer to a message, None where the protocol has none."""
        self._handling = True
        try:
            return await self._answer(message)
        finally:
            self._handling = False

    @property
    def busy(self) -> bool:
        """Whether an episode runs, or a message waits for its answer."""
        return self.in_episode or self._handling

    async def _answer(self, message: Message) -> Message | None:
        if message.type == wire.HELLO:
            return Message(wire.HELLO, self._hello(message.payload), message.seq)
        if message.type == wire.EPISODE_START:
            await self._start(message.payload)
        elif message.type == wire.EPISODE_END:
            self.leave()
        elif message.type == wire.OBSERVATION:
            return await self._act(message)
        return None

    def leave(self) -> None:
        """No observation comes for now: nobody needs to wait for this session."""
        self.in_episode = False
        self._batcher.left(self._session)

    def _hello(self, payload: dict[str, Any]) -> dict[str, Any]:
        offered = payload.get("capabilities")
        # Ensembles look at every frame, whatever the client could do without.
        self._whole_chunks = isinstance(offered, dict) and bool(offered.get(wire.CHUNKS))
        self._whole_chunks = self._whole_chunks and not self._queue.looks_always
        observation = self._policy.observation_spec
        # What vla-eval's benchmarks send only when they are asked to.
        asked = {"send_wrist_image": "wrist" in observation, "send_state": "state" in observation}
        return wire.hello(
            model_server=self._name,
            capabilities={wire.CHUNKS: True} if self._whole_chunks else {},
            action_spec={k: s.to_dict() for k, s in self._policy.action_spec.items()},
            observation_spec={k: s.to_dict() for k, s in observation.items()},
            observation_params={k: True for k, wanted in asked.items() if wanted},
        )

    async def _start(self, payload: dict[str, Any]) -> None:
        task = payload.get("task")
        task = task if isinstance(task, dict) else {}
        seed = task.get("seed")
        if type(seed) is not int or seed < 0:
            # Other clients send none: the task decides, so that the same episode gets the same.
            seed = zlib.crc32(json.dumps(task, sort_keys=True, default=str).encode())
        self._queue.clear()
        self._session = Session(id=self._session.id, task=task, seed=seed)
        self._failed_start = ""
        self.in_episode = True
        self._metrics.episodes += 1
        try:
            await self._batcher.call(self._policy.reset, self._session)
        except Exception as error:
            # episode_start has no answer: the observations get it.
            self._failed_start = self._told("reset", error)

    async def _act(self, message: Message) -> Message:
        failure = self._failed_start
        if not failure and self._queue.wants_look:
            try:
                chunk = await self._batcher.predict(message.payload, self._session)
                self._queue.push(chunk[: self._chunk_size])
            except Exception as error:
                failure = self._told("predict", error)
        if failure:
            self._metrics.errors += 1
            return Message(wire.ERROR, {"error": failure}, message.seq)
        self._metrics.observations += 1
        actions = self._queue.take() if self._whole_chunks else self._queue.pop()
        self._session.step += len(actions) if self._whole_chunks else 1
        return Message(wire.ACTION, {"actions": actions}, message.seq)

    def _told(self, where: str, error: Exception) -> str:
        """What the client hears of the policy's error; the log has the traceback of a session's first."""
        if type(error) is not self._logged:
            log.error("the policy failed in %s", where, exc_info=error)
            self._logged = type(error)
        # Quoted bytes of a file name, say, come as surrogates, which no message can carry.
        text = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
        return text[:LONGEST_ERROR]
