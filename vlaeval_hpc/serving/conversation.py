"""A connection's messages, in turn, between the socket and its session."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection

from vlaeval_hpc.serving.drain import Drain
from vlaeval_hpc.serving.openpi import PATH, POLICY_FAILED, OpenpiHandler, PolicyFailed
from vlaeval_hpc.serving.session import SessionHandler
from vlaeval_hpc.wire.codec import HoldsPictures, WireError
from vlaeval_hpc.wire.messages import EPISODE_START, ERROR, Message
from vlaeval_hpc.wire.specs import Specs

SEND_TIMEOUT = 60.0  # a client that does not read its answer for so long is gone
GOING_AWAY, BAD_DATA = 1001, 1007


async def converse(connection: ServerConnection, session: SessionHandler, looks: Specs, drain: Drain) -> None:
    """Answer until the client leaves, or the server drains and the episode is over."""
    if connection.request is not None and urlsplit(connection.request.path).path == PATH:
        await _converse_openpi(connection, OpenpiHandler(session, looks))
    else:
        await _converse(connection, session, drain)


async def leave(connection: ServerConnection) -> None:
    """Say goodbye to a client that will find another server."""
    await connection.close(GOING_AWAY, "draining")


async def _converse(connection: ServerConnection, session: SessionHandler, drain: Drain) -> None:
    async for data in connection:
        try:
            message = await _unpack(data)
        except WireError as error:
            await _send(connection, Message(ERROR, {"error": str(error)}).pack())
            await connection.close(BAD_DATA, _reason(error))
            return
        del data  # an observation is held once while it waits for the policy, and not at all until the next
        if message.type != EPISODE_START or not drain.refusing:
            answer = await session.handle(message)
            del message
            if answer is not None:
                await _send(connection, answer.pack())
            if session.in_episode or not drain.refusing:
                continue
        await leave(connection)
        return


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
    try:
        return Message.unpack(data, pictures=False)
    except HoldsPictures:  # other sessions need the milliseconds that it takes
        return await asyncio.to_thread(Message.unpack, data)
