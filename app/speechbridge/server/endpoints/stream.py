"""The endpoints for streams: one with Rev.ai's protocol, and /ws_a, with audio in and responses out only."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, WebSocket

from speechbridge.cluster import Elsewhere, Unavailable
from speechbridge.protocol import reading
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import Connected
from speechbridge.protocol.query import parameters
from speechbridge.protocol.queue import Queue as WaitFor
from speechbridge.protocol.reading import Entry
from speechbridge.protocol.request import PATH, BadRequest, ContentType, StreamRequest
from speechbridge.protocol.resume import Resume
from speechbridge.server.endpoints.connection import WebSocketConnection
from speechbridge.server.intake import asked_of
from speechbridge.server.places import COME_BACK, NoPlace, Place
from speechbridge.server.queueing import Left, Queue
from speechbridge.server.resumable import UNKNOWN, About, Covered, ResumableConnection
from speechbridge.server.session import Sessions, new_id
from speechbridge.server.sharing import Sharing
from speechbridge.server.verdicts import DRAINED
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from speechbridge.cluster import Shares
    from speechbridge.cluster.transcript import Transcript
    from speechbridge.server.client import ClientConnection
    from speechbridge.server.resumable_connections import ResumableConnections
    from speechbridge.server.shared import Lease

PLAIN = "/ws_a"
PATHS = (PATH, "/" + PATH)  # SDKs join a base URL and a path, which gives two slashes if the base URL ends in one
UNDECLARED = ContentType.undeclared(ContentType.raw())  # the default of /ws_a

ELSEWHERE = Close(CloseCode.TRY_AGAIN_LATER, "resume: the stream is at another process still: try again")
OUT_OF_REACH = Close(CloseCode.TRY_AGAIN_LATER, "resume: the stream cannot be looked up now: try again")


def router(sessions: Sessions, resumable: ResumableConnections, queue: Queue, shares: Shares) -> APIRouter:
    """Make the routes. `resumable` holds resumable streams, `shares` the shared transcripts.

    Clients wait in `queue` if all streams of the account are in use.
    """
    routes = APIRouter()
    streams = _Streams(sessions, resumable, shares)

    @routes.websocket(PLAIN)
    async def plain(socket: WebSocket) -> None:
        """16 kHz mono S16LE in, or a container; each response out, unchanged. `EOS` or a close ends the input.

        A query with `content_type` is needed only for other formats, such as mu-law.
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
        """Rev.ai's streaming protocol. It refuses by a close frame after the handshake, so that clients see why."""
        await socket.accept()
        query = socket.scope["query_string"].decode("latin-1")
        with sessions.held.one():  # until the client has its close frame, with or without a session
            await serve(WebSocketConnection(socket), query, socket.scope["lease"])

    async def serve(connection: WebSocketConnection, query: str, lease: Lease) -> None:
        resume = Resume.parse(query)
        if resume is not None and resume.key is not None:
            await streams.resume(connection, resume.key, resume.finals, lease)
            return
        try:
            request = StreamRequest.parse(query, ContentType.undeclared())
        except BadRequest as error:
            await connection.close(Close(CloseCode.BAD_REQUEST, str(error)))
            return
        place = await _place(connection, query, sessions, queue)
        if place is None:
            return
        key = "" if resume is None else resumable.new_key()
        token = await _token(query, shares, place, key)
        if key:
            await streams.begin(connection, request, place, lease, key=key, token=token)
            return

        async def greet(session_id: str) -> None:
            await connection.send(Connected(session_id, token).encode())

        with _shared(shares, token, connection) as (client, _):
            close = await sessions.run(client, request, greet, place=place)
        await connection.close(close)

    return routes


def _named_type(query: str) -> ContentType:
    """Return the content type that a query names, and UNDECLARED if it names none. Raises BadRequest."""
    named = parameters(query).get("content_type")
    content_type = ContentType.undeclared() if named is None else ContentType.parse(named)
    return UNDECLARED if content_type == ContentType.undeclared() else content_type


class _Streams:
    """Begins resumable streams, and continues those of other processes."""

    def __init__(self, sessions: Sessions, resumable: ResumableConnections, shares: Shares) -> None:
        self._sessions = sessions
        self._resumable = resumable
        self._shares = shares

    async def begin(  # noqa: PLR0913 # what a stream consists of
        self,
        connection: WebSocketConnection,
        request: StreamRequest,
        place: Place,
        lease: Lease,
        *,
        key: str,
        token: str | None,
    ) -> None:
        query, frame = replace(request, access_token="").query(), request.content_type.frame
        stream = self._resumable.begin(
            About(new_id(), token, query, place.holder, time.time(), frame), lease.owner, key
        )
        self._resumable.run(stream, self._run(stream, request, place, lease))
        await stream.serve(connection)

    async def resume(self, connection: WebSocketConnection, key: str, finals: int, lease: Lease) -> None:
        """Serve a client that resumes its stream, whichever process owns it."""
        if self._resumable.find(key, lease.owner) is None and (close := await self._take(key, finals, lease)):
            await connection.close(close)
            return
        stream = self._resumable.find(key, lease.owner)
        await (connection.close(UNKNOWN) if stream is None else stream.serve(connection, finals))

    async def _take(self, key: str, finals: int, lease: Lease) -> Close | None:
        """Take a stream over from another process. Return the close frame for the client if that cannot be."""
        run = partial(self._go_on, lease=lease)
        taking = asyncio.create_task(self._resumable.take(key, lease.owner, finals, run), name="resumable-take")
        draining = asyncio.create_task(self._sessions.began_draining.wait(), name="resumable-take-drain")
        try:  # it takes up to 25 s if the other process does not answer, and a drain cannot wait for that
            await asyncio.wait({taking, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                return DRAINED[1]
            return None if taking.result() else UNKNOWN
        except (Unavailable, Elsewhere) as failure:
            return OUT_OF_REACH if isinstance(failure, Unavailable) else ELSEWHERE
        finally:
            await cancel_and_wait(taking, draining)

    def _go_on(self, stream: ResumableConnection, lease: Lease) -> None:
        lease.take_places()
        confirmed, finals = stream.record.confirmed, [*stream.record.finals]  # before its client confirms more

        async def go_on() -> Close:
            try:
                place = await self._sessions.places.adopt(stream.about.holder)
            except NoPlace as refusal:
                return refusal.close
            before: Sequence[Entry] = ()
            if stream.about.read is not None:
                before = await self._before(stream.about.read, confirmed, finals)
            close = await self._run(stream, StreamRequest.parse(stream.about.query), place, lease, before)
            if close.code == CloseCode.TOO_MANY and not stream.has_begun:  # a dead process' streams still count
                return COME_BACK
            return close

        self._resumable.run(stream, go_on())

    async def _before(self, token: str, confirmed: int, finals: Sequence[str]) -> Sequence[Entry]:
        """Return the finals so far, for readers: those that are shared already, and those that a journal has besides.

        A process that is killed may have stored its last finals, and not have shared them. `finals` are those after the
        first `confirmed` ones.
        """
        try:
            transcript = await self._shares.find(token)
        except Unavailable:
            return ()
        shared = [] if transcript is None else transcript.finals[: confirmed + len(finals)]
        rest = finals[len(shared) - confirmed :] if len(shared) >= confirmed else ()
        return [*shared, *(Entry.of(text, number) for number, text in enumerate(rest, len(shared) + 1))]

    async def _run(
        self,
        stream: ResumableConnection,
        request: StreamRequest,
        place: Place,
        lease: Lease,
        before: Sequence[Entry] = (),
    ) -> Close:
        """Run a stream's session, even while its client is disconnected. It begins where the settled audio ends."""
        about, sessions = stream.about, self._sessions
        covered, rate = Covered(stream), asked_of(sessions.takes, request).content_type.byte_rate
        if covered.origin and rate:
            start_ts = float(request.options.get("start_ts", 0.0)) + covered.origin / rate
            request = replace(request, options={**request.options, "start_ts": start_ts})
        left = max(1.0, sessions.session_seconds - (time.time() - about.begun)) if sessions.session_seconds else 0.0
        away = self._resumable.away_seconds
        with lease.held(), _shared(self._shares, about.read, stream, before, away) as (client, transcript):

            def moves() -> None:
                place.hand_over()
                if transcript is not None:
                    transcript.move()

            stream.moves = moves
            if transcript is not None:
                stream.shared = lambda: transcript.stored
            follower = covered if self._resumable.journal.survives else None
            return await sessions.run(
                client, request, session_id=about.session_id, place=place, longest=left, follower=follower
            )


@contextmanager
def _shared(
    shares: Shares, token: str | None, connection: ClientConnection, before: Sequence[Entry] = (), away: float = 0.0
) -> Iterator[tuple[ClientConnection, Transcript | None]]:
    """Yield a connection that also sends to readers, and their transcript, if there is a token for them."""
    if token is None:
        yield connection, None
        return
    with shares.sharing(token, before, away) as transcript:
        yield Sharing(connection, transcript), transcript


async def _token(query: str, shares: Shares, place: Place, key: str) -> str | None:
    """Return a token for readers, if the client shares: that of the key of its stream, if it has one.

    Cancellation: the place is given back.
    """
    if not reading.shares(query):
        return None
    token = reading.token_of(key) if key else reading.new_token()
    try:
        await shares.announce(token)
    except BaseException:
        await place.release(was_cut=False)
        raise
    return token


async def _place(connection: WebSocketConnection, query: str, sessions: Sessions, queue: Queue) -> Place | None:
    """Take a place at the speech service; wait for one if the client asks for that. None: the connection is closed."""
    asked = WaitFor.parse(query)
    try:
        return await (sessions.places.take() if asked is None else queue.wait(connection, asked.ticket))
    except NoPlace as refusal:
        await connection.close(sessions.refused(refusal.close))
    except Left:
        pass
    return None
