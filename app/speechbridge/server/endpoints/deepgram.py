"""Deepgram's live API: `speechbridge.protocol.deepgram` over successive sessions.

Samples can be split anywhere, so Finalize ends a session, and the next audio begins another one. Audio in a container
cannot be split: there Finalize is answered by the next final, or by empty Results. Either way its answer is sent within
`PATIENCE`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import APIRouter, WebSocket

from speechbridge.protocol.close import Close, CloseCode, fit_reason
from speechbridge.protocol.deepgram import (
    CLOSE_STREAM,
    CONFIGURE,
    FINALIZE,
    KEEP_ALIVE,
    LISTEN,
    Listening,
    Results,
    WrongMessage,
    configure_failure,
    read,
    refusal,
    wrong,
)
from speechbridge.protocol.messages import EOS, Final, Partial, parse_message
from speechbridge.protocol.request import BadRequest
from speechbridge.server.endpoints.connection import EventWriter, WebSocketConnection
from speechbridge.server.successive import FLUSH, ReadAhead, run_successively
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from starlette.types import Message, Scope

    from speechbridge.protocol.request import StreamRequest
    from speechbridge.server.client import ClientConnection
    from speechbridge.server.session import Sessions
    from speechbridge.server.totals import Totals

PATIENCE = 4.0  # seconds from Finalize to its answer; clients may rely on five
LAG = 0.7  # seconds by which partials are behind the audio, so that a word in this time may not be reported yet
QUIET = 0.5  # seconds without a response after which nobody is assumed to speak


def router(sessions: Sessions) -> APIRouter:
    """Make the route."""
    routes = APIRouter()

    @routes.websocket(LISTEN)
    async def listen(socket: WebSocket) -> None:
        """Deepgram's live API. A request that cannot be served is answered over HTTP."""
        try:
            asked = Listening.parse(socket.scope["query_string"].decode("latin-1"))
        except BadRequest as error:
            close = Close(CloseCode.BAD_REQUEST, fit_reason(str(error)))
            if can_deny(socket.scope):
                for message in denial(close):
                    await socket.send(message)
                return
            await socket.accept()
            await socket.close(close.code, close.reason)
            return
        await socket.accept()
        connection = WebSocketConnection(socket)
        client = DeepgramConnection(connection, asked)
        with sessions.held.one():  # a drain waits until the last message is sent
            try:
                close = await run_successively(sessions, client, client.ended)
            finally:
                await client.stop()
            await (client.finish() if close.code == CloseCode.NORMAL else client.write(wrong(close.reason)))
            await connection.close(close)

    return routes


def can_deny(scope: Scope) -> bool:
    """Tell whether the server can answer a handshake over HTTP."""
    return "websocket.http.response" in scope.get("extensions", {})


def denial(close: Close) -> tuple[Message, Message]:
    """Return the response to a refused handshake, as ASGI messages."""
    status, headers, body = refusal(close, _request_id())
    given = {"content-type": "application/json", **headers}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    return (
        {"type": "websocket.http.response.start", "status": status, "headers": encoded},
        {"type": "websocket.http.response.body", "body": json.dumps(body).encode()},
    )


def _request_id() -> str:
    return secrets.token_hex(16)


class DeepgramConnection:
    """A client of Deepgram's API. Implements `FlushableConnection` of successive sessions."""

    def __init__(self, connection: ClientConnection, asked: Listening) -> None:
        self.write = EventWriter(connection, json.dumps).write
        self._ahead = ReadAhead(connection)
        self._asked = asked
        self._id = _request_id()
        self._results = Results(asked, self._id)
        self._created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._hash = hashlib.sha256()
        self._received = 0  # bytes
        self._ended_seconds = 0.0  # seconds of the sessions that have ended
        self._last_result = 0.0  # seconds of audio up to the end of the last result
        self._loop = asyncio.get_running_loop()
        self._answered_at = self._loop.time()
        self._finalizes = False  # a Finalize has not been answered
        self._held: Final | None = None  # the latest final of a flush: it answers the flush, unless another comes
        self._late: asyncio.Task[None] | None = None

    # ---- messages of the client --------------------------------------------------------------------------------------

    async def receive(self) -> bytes | str | None:
        """Return the next audio, FLUSH, EOS, or None once the client has left."""
        while (message := await self._ahead.receive()) is not None:
            if isinstance(message, bytes):
                if not message:  # an empty binary message ends the input in Deepgram's protocol
                    return EOS
                await self._count(message)
                return message
            try:
                kind = read(message)
            except WrongMessage as error:
                await self.write(wrong(str(error)))
                continue
            if kind == CLOSE_STREAM:
                return EOS
            if kind == CONFIGURE:
                await self.write(configure_failure(self._id))
            elif kind == FINALIZE and await self._finalize():
                return FLUSH
            elif kind == KEEP_ALIVE:
                await self._pass_time()
        return None

    async def left(self) -> None:
        """Return once the client has left."""
        await self._ahead.left()

    async def _count(self, audio: bytes) -> None:
        self._received += len(audio)
        self._hash.update(audio)
        await self._pass_time()

    async def _pass_time(self) -> None:
        if self._loop.time() - self._answered_at >= QUIET and (events := self._results.utterance_end(self._now - LAG)):
            await self.write(*events)

    async def _finalize(self) -> bool:
        """Begin to answer a Finalize. Returns whether the session has to be flushed for it."""
        if self._finalizes:
            await self._answer()
        self._finalizes = True
        if not self._received:  # without audio no result will come
            await self._answer()
            return False
        self._late = asyncio.create_task(self._answer_late(), name=f"{self._id}-finalize")
        return bool(self._asked.bytes_per_second)

    # ---- calls of the sessions ---------------------------------------------------------------------------------------

    def request(self, start_ts: float) -> StreamRequest:
        """Return the request for the next session."""
        return self._asked.request(start_ts)

    async def send(self, text: str) -> None:
        """Send the messages of a partial or a final. The protocol has no messages for other responses."""
        try:
            message = parse_message(text)
        except ValueError:
            return
        if not isinstance(message, Partial | Final):
            return
        self._answered_at = self._loop.time()
        self._last_result = max(self._last_result, message.end_ts)
        if not (self._finalizes and isinstance(message, Final)):
            await self.write(*self._results.messages_for(message))
            return
        if self._held is not None:
            held, self._held = self._held, message
            await self.write(*self._results.messages_for(held))
        self._held = message
        if not self._asked.bytes_per_second:
            await self._answer()

    async def flushed(self) -> None:
        """Answer the Finalize that asked for the flush, unless it was answered after PATIENCE."""
        await self._answer()

    async def _answer(self) -> None:
        if not self._finalizes:
            return
        held, self._held, self._finalizes = self._held, None, False
        if self._late is not None and self._late is not asyncio.current_task():
            self._late.cancel()
        if held is None:
            await self.write(self._results.empty(self._now))
        else:
            await self.write(*self._results.messages_for(held, from_finalize=True))

    async def _answer_late(self) -> None:
        await asyncio.sleep(PATIENCE)
        await self._answer()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def ended(self, totals: Totals) -> None:
        """Count the audio of a session that has ended."""
        self._ended_seconds += totals.received

    async def stop(self) -> None:
        """Stop the timer of an unanswered Finalize."""
        if self._late is not None:
            await cancel_and_wait(self._late)

    async def finish(self) -> None:
        """Send the last message."""
        await self._answer()
        await self.write(self._results.metadata(self._now, self._created, self._hash.hexdigest()))

    @property
    def _now(self) -> float:
        """Seconds of audio so far; for a container, as far as that is known."""
        rate = self._asked.bytes_per_second
        return self._received / rate if rate else self._ended_seconds or self._last_result
