"""Deepgram's live API, for its unmodified SDKs: a face over the sessions that every client has."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import APIRouter, WebSocket
from fastapi.responses import Response

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.deepgram import PATH as LISTEN
from speechbridge.protocol.deepgram import Command, Listen, Talk, Writer, command, refusal
from speechbridge.protocol.messages import EOS, Element, Final, Partial, parse_message
from speechbridge.protocol.request import BadRequest
from speechbridge.server.endpoints.connection import WebSocketConnection
from speechbridge.server.successive import FLUSH, ReadAhead, bytes_per_second, run_successively
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from speechbridge.protocol.messages import Message
    from speechbridge.protocol.request import StreamRequest
    from speechbridge.server.session import Sessions

logger = logging.getLogger(__name__)

# Seconds. A stream in a container has one decoder, so it cannot be flushed: its next final is waited for.
FINALIZE_SECONDS = 4.0


def router(sessions: Sessions) -> APIRouter:
    """Make the route."""
    routes = APIRouter()

    @routes.websocket(LISTEN)
    async def listen(socket: WebSocket) -> None:
        """Deepgram's protocol. A refusal is an HTTP status, as its SDKs expect."""
        request_id = str(uuid.uuid4())
        try:
            asked = Listen.parse(socket.scope["query_string"].decode("latin-1"))
        except BadRequest as error:
            close = Close(CloseCode.BAD_REQUEST, str(error))
            logger.info("refused with %s", close)
            status, headers, body = refusal(close, request_id)
            await socket.send_denial_response(Response(body, status, headers))
            return
        await socket.accept(headers=[(b"dg-request-id", request_id.encode())])
        connection = WebSocketConnection(socket)
        face = Face(connection, Writer(request_id, asked))
        close = await face.run(sessions)
        await connection.close(close)

    return routes


class Face(ReadAhead):
    """A client of Deepgram's, as sessions see one."""

    def __init__(self, connection: WebSocketConnection, writer: Writer) -> None:
        super().__init__(connection)
        self._connection = connection
        self._writer = writer
        self._listen = writer.listen
        self._talk = Talk(writer)
        self._rate = bytes_per_second(self._listen.content_type)  # None for a container
        self._bytes = 0
        self._heard = 0.0  # seconds, of the sessions that have ended
        self._begun: float | None = None
        self._finalizing: asyncio.Task[None] | None = None

    async def run(self, sessions: Sessions) -> Close:
        """Serve the client; return how its connection is to be closed."""
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            close = await run_successively(sessions, self)
        finally:
            if self._finalizing is not None:
                await cancel_and_wait(self._finalizing)
        if close.code == CloseCode.NORMAL:
            duration = self._heard if self._rate is None else self._bytes / self._rate
            await self._connection.send(self._writer.metadata(created, duration))
        return close

    # ---- what the client says ----------------------------------------------------------------------------------------

    async def receive(self) -> bytes | str | None:
        """Return audio, FLUSH, EOS, or None once the client has left. Cancellation: no message is lost."""
        while True:
            message = await super().receive()
            if message is None:
                return None
            if isinstance(message, bytes):
                if not message:  # as SDKs before the third ended a stream
                    return EOS
                self._bytes += len(message)
                await self._tell(self._talk.sounded(self._now()))
                return message
            match command(message):
                case Command.CLOSE_STREAM:
                    return EOS
                case Command.FINALIZE if self._rate is not None:
                    self._talk.flushing()
                    return FLUSH
                case Command.FINALIZE:
                    self._finalize_later()
                case None:
                    await self._connection.send(self._writer.error(message))

    def request(self, start_ts: float) -> StreamRequest:
        """Return what is asked of the speech service."""
        return self._listen.request(start_ts)

    # ---- what it is told ---------------------------------------------------------------------------------------------

    async def send(self, text: str) -> None:
        """Tell it what a response of the speech service says."""
        heard = self._read(text)
        if isinstance(heard, Partial):
            await self._tell(self._talk.partial(heard))
        elif isinstance(heard, Final):
            await self._tell(self._talk.final(heard))
            if self._finalizing is not None:
                await self._finalized()

    async def flushed(self) -> None:
        """Tell it that what it flushed was all."""
        await self._tell(self._talk.flushed(self._now()))

    def heard(self, seconds: float) -> None:
        """Note how much audio the sessions so far have had."""
        self._heard = seconds

    def _finalize_later(self) -> None:
        self._talk.flushing()
        if self._finalizing is None:
            self._finalizing = asyncio.create_task(self._wait_for_final(), name="finalize")

    async def _wait_for_final(self) -> None:
        if self._talk.is_speaking:
            await asyncio.sleep(FINALIZE_SECONDS)
        self._finalizing = None
        await self.flushed()

    async def _finalized(self) -> None:
        finalizing, self._finalizing = self._finalizing, None
        if finalizing is not None:
            await cancel_and_wait(finalizing)
            await self.flushed()

    async def _tell(self, messages: list[str]) -> None:
        for message in messages:
            await self._connection.send(message)

    def _read(self, text: str) -> Message | None:
        try:
            return parse_message(text)
        except ValueError:  # another SDK's own words
            now = self._now()
            return Final(now, now, (Element(text, ts=now, end_ts=now),))

    def _now(self) -> float:
        """Return where the audio is, in seconds; in a container nobody knows, so by the clock."""
        if self._rate is not None:
            return self._bytes / self._rate
        now = asyncio.get_running_loop().time()
        if self._begun is None:
            self._begun = now
        return now - self._begun
