"""The endpoints for streams: one with Rev.ai's protocol, one without any."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from fastapi import APIRouter, WebSocket

from speechbridge.protocol import reading
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import Connected
from speechbridge.protocol.queue import Queue as WaitFor
from speechbridge.protocol.request import PATH, BadRequest, ContentType, StreamRequest
from speechbridge.protocol.resume import Resume
from speechbridge.server.endpoints.connection import WebSocketConnection
from speechbridge.server.places import NoPlace, Place
from speechbridge.server.queueing import Left, Queue
from speechbridge.server.resumable import UNKNOWN, ResumableConnection, ResumableConnections
from speechbridge.server.session import Sessions, new_id
from speechbridge.server.sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.cluster import Shares
    from speechbridge.server.client import ClientConnection

PLAIN = "/ws_a"
PATHS = (PATH, "/" + PATH)  # SDKs join a base URL and a path: a base URL that ends in a slash makes two of them
UNDECLARED = ContentType.undeclared(ContentType.raw())  # where there is no `content_type` to name it


def router(sessions: Sessions, resumable: ResumableConnections, queue: Queue, shares: Shares) -> APIRouter:
    """Make the routes. `resumable` keeps the connections of those sessions whose clients may resume.

    In `queue` wait those who find all streams of the account in use; `shares` has what clients share.
    """
    routes = APIRouter()

    @routes.websocket(PLAIN)
    async def plain(socket: WebSocket) -> None:
        """16 kHz mono S16LE in, or a container; each response out, unchanged. `EOS` or a close ends the input.

        A query may name another type, as for mu-law, and is not needed.
        """
        await socket.accept()
        connection = WebSocketConnection(socket)
        try:
            content_type = _named_type(socket.scope["query_string"].decode("latin-1"))
        except BadRequest as error:
            await connection.close(Close(CloseCode.BAD_REQUEST, str(error)))
            return
        await connection.close(await sessions.run(connection, StreamRequest(content_type)))

    @routes.websocket(PATHS[1])
    @routes.websocket(PATHS[0])
    async def revai(socket: WebSocket) -> None:
        """Rev.ai's streaming protocol. A refusal is a close frame after the handshake, so that clients see why."""
        await socket.accept()
        connection = WebSocketConnection(socket)
        query = socket.scope["query_string"].decode("latin-1")
        resume = Resume.parse(query)
        if resume is not None and resume.key is not None:
            stream = resumable.find(resume.key, socket.scope["lease"].owner)
            await (connection.close(UNKNOWN) if stream is None else stream.serve(connection, resume.finals))
            return
        try:
            request = StreamRequest.parse(query, ContentType.undeclared())
        except BadRequest as error:
            await connection.close(Close(CloseCode.BAD_REQUEST, str(error)))
            return
        place = await _place(connection, query, sessions, queue)
        if place is None:
            return
        token = reading.new_token() if reading.shares(query) else None
        if resume is not None:
            stream = resumable.begin(new_id(), socket.scope["lease"].owner, token)

            async def run(stream: ResumableConnection) -> Close:
                with socket.scope["lease"].held(), _shared(shares, token, stream) as client:  # also while it is cut off
                    return await sessions.run(client, request, session_id=stream.session_id, place=place)

            resumable.run(stream, run(stream))
            await stream.serve(connection)
            return

        async def greet(session_id: str) -> None:
            await connection.send(Connected(session_id, token).encode())

        with _shared(shares, token, connection) as client:
            close = await sessions.run(client, request, greet, place=place)
        await connection.close(close)

    return routes


def _named_type(query: str) -> ContentType:
    """Return the content type that a query names, and UNDECLARED if it names none. Raises BadRequest."""
    named = dict(parse_qsl(query, errors="replace")).get("content_type")
    content_type = ContentType.undeclared() if named is None else ContentType.parse(named)
    return UNDECLARED if content_type == ContentType.undeclared() else content_type


@contextmanager
def _shared(shares: Shares, token: str | None, connection: ClientConnection) -> Iterator[ClientConnection]:
    """Return a connection whose readers hear what its client is told, if there is a token for them."""
    if token is None:
        yield connection
        return
    with shares.sharing(token) as transcript:
        yield Sharing(connection, transcript)


async def _place(connection: WebSocketConnection, query: str, sessions: Sessions, queue: Queue) -> Place | None:
    """Take a place at the speech service; wait for one if the client asks for that. None: it was closed."""
    asked = WaitFor.parse(query)
    try:
        return await (sessions.places.take() if asked is None else queue.wait(connection, asked.ticket))
    except NoPlace as refusal:
        await connection.close(sessions.refused(refusal.close))
    except Left:
        pass
    return None
