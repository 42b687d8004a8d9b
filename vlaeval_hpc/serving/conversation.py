"""A connection's messages, in turn, between the socket and its session. No task waits: each is answered as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from vlaeval_hpc.serving.drain import Drain
from vlaeval_hpc.serving.openpi import PATH, POLICY_FAILED, OpenpiHandler, PolicyFailed
from vlaeval_hpc.serving.receiver import Data, Receiver
from vlaeval_hpc.serving.session import SessionHandler
from vlaeval_hpc.wire.codec import HoldsPictures, WireError
from vlaeval_hpc.wire.messages import EPISODE_START, ERROR, Message
from vlaeval_hpc.wire.specs import Specs

GOING_AWAY, BAD_DATA = 1001, 1007


async def converse(connection: Receiver, session: SessionHandler, looks: Specs, drain: Drain) -> None:
    """Answer until the client leaves, or the server drains and the episode is over."""
    path = urlsplit(connection.request.path).path if connection.request is not None else ""
    conversation = (
        _OpenpiConversation(connection, OpenpiHandler(session, looks))
        if path == PATH
        else _Conversation(connection, session, drain)
    )
    await conversation.run()


async def leave(connection: Receiver) -> None:
    """Say goodbye to a client that will find another server."""
    await connection.close(GOING_AWAY, "draining")


class _Turns:
    """One message after the other: `_take` says what is done with it, and calls `_answered` then."""

    def __init__(self, connection: Receiver) -> None:
        self._connection = connection
        self._busy = False
        self._inside = False
        self._over: asyncio.Future[tuple[int, str] | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until the end. Raises what is wrong with us."""
        self._connection.wake = self._wake
        self._wake()
        goodbye = await self._over
        if goodbye is not None:
            await self._connection.close(*goodbye)

    def _take(self, data: Data) -> None:
        raise NotImplementedError

    def _answered(self, answer: bytes | str | None = None, goodbye: tuple[int, str] | None = None) -> None:
        """Send an answer, and go on or leave."""
        if answer is not None:
            self._connection.answer(answer)
        self._busy = False
        if goodbye is not None:
            self._leave(goodbye)
        else:
            self._wake()

    def _guarded(self, function: Callable[..., None], *arguments: object) -> None:
        """What is wrong with us ends this conversation and no other."""
        try:
            function(*arguments)
        except Exception as error:
            if not self._over.done():
                self._over.set_exception(error)

    def _leave(self, goodbye: tuple[int, str] | None) -> None:
        if not self._over.done():
            self._over.set_result(goodbye)

    def _wake(self) -> None:
        if self._connection.ended:
            self._leave(None)
        if self._inside:  # of an answer that came at once
            return
        self._inside = True
        try:
            while not self._busy and not self._over.done() and self._connection.writable:
                data = self._connection.next()
                if data is None:
                    break
                self._busy = True
                self._guarded(self._take, data)
        finally:
            self._inside = False


class _Conversation(_Turns):
    """In our protocol."""

    def __init__(self, connection: Receiver, session: SessionHandler, drain: Drain) -> None:
        super().__init__(connection)
        self._session = session
        self._drain = drain

    def _take(self, data: Data) -> None:
        if isinstance(data, str):
            self._refuse(WireError("a text frame: messages are binary"))
            return
        try:
            message = Message.unpack(data, pictures=False)
        except WireError as error:
            self._refuse(error)
        except HoldsPictures:  # other sessions need the milliseconds that it takes
            unpacking = asyncio.get_running_loop().run_in_executor(None, Message.unpack, data)
            unpacking.add_done_callback(lambda done: self._guarded(self._unpacked, done))
        else:
            self._handle(message)

    def _unpacked(self, done: asyncio.Future[Message]) -> None:
        try:
            message = done.result()
        except WireError as error:
            self._refuse(error)
        else:
            self._handle(message)

    def _refuse(self, error: WireError) -> None:
        self._answered(Message(ERROR, {"error": str(error)}).pack(), (BAD_DATA, _reason(error)))

    def _handle(self, message: Message) -> None:
        if message.type == EPISODE_START and self._drain.refusing:
            self._answered(None, (GOING_AWAY, "draining"))
        else:
            self._session.handle(message, lambda answer: self._guarded(self._tell, answer))

    def _tell(self, answer: Message | None) -> None:
        ends = self._drain.refusing and not self._session.in_episode
        self._answered(answer.pack() if answer is not None else None, (GOING_AWAY, "draining") if ends else None)


class _OpenpiConversation(_Turns):
    """In openpi's."""

    def __init__(self, connection: Receiver, handler: OpenpiHandler) -> None:
        super().__init__(connection)
        self._handler = handler

    async def run(self) -> None:
        self._connection.answer(self._handler.metadata())
        await super().run()

    def _take(self, data: Data) -> None:
        try:
            self._handler.handle(
                data.encode() if isinstance(data, str) else data, lambda answer: self._guarded(self._tell, answer)
            )
        except (WireError, PolicyFailed) as error:
            self._tell(error)

    def _tell(self, answer: bytes | WireError | PolicyFailed) -> None:
        if isinstance(answer, bytes):
            self._answered(answer)
        else:
            # As such a client has it: whatever the error is, a text frame and the end.
            self._answered(str(answer), (BAD_DATA if isinstance(answer, WireError) else POLICY_FAILED, _reason(answer)))


def _reason(error: Exception) -> str:
    # A close frame has room for 123 bytes of text.
    return str(error).encode("ascii", "replace")[:120].decode()
