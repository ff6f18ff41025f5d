"""Deepgram's live API: `speechbridge.protocol.deepgram` over successive sessions.

Samples can be cut anywhere, so Finalize ends a session, and the next audio begins another. A container cannot: Finalize
then takes the next final, or is answered by empty Results. Either way its answer comes within `PATIENCE`.
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
LAG = 0.7  # seconds by which partials are behind the audio: a word within them may still be heard
QUIET = 0.5  # seconds without a response, after which it is believed that nobody speaks


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
        face = DeepgramConnection(connection, asked)
        with sessions.held.one():  # a drain waits until its client is told
            try:
                close = await run_successively(sessions, face, face.ended)
            finally:
                await face.stop()
            await (face.finish() if close.code == CloseCode.NORMAL else face.tell(wrong(close.reason)))
            await connection.close(close)

    return routes


def can_deny(scope: Scope) -> bool:
    """Tell whether the server can answer a handshake over HTTP."""
    return "websocket.http.response" in scope.get("extensions", {})


def denial(close: Close) -> tuple[Message, Message]:
    """Return the response to a handshake that is refused."""
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
    """A client of Deepgram's, as successive sessions see it."""

    def __init__(self, connection: ClientConnection, asked: Listening) -> None:
        self.tell = EventWriter(connection, json.dumps).tell
        self._ahead = ReadAhead(connection)
        self._asked = asked
        self._id = _request_id()
        self._results = Results(asked, self._id)
        self._created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._hash = hashlib.sha256()
        self._received = 0  # bytes
        self._heard = 0.0  # seconds of the sessions that have ended
        self._said = 0.0  # seconds up to the last result
        self._loop = asyncio.get_running_loop()
        self._answered_at = self._loop.time()
        self._finalizes = False  # a Finalize has not been answered
        self._held: Final | None = None  # the last final of a flush: the one that answers it, unless another comes
        self._late: asyncio.Task[None] | None = None

    # ---- what a client sends -----------------------------------------------------------------------------------------

    async def receive(self) -> bytes | str | None:
        """Return the next audio, FLUSH, EOS, or None once the client has left."""
        while (message := await self._ahead.receive()) is not None:
            if isinstance(message, bytes):
                if not message:  # as Deepgram has it
                    return EOS
                await self._count(message)
                return message
            try:
                kind = read(message)
            except WrongMessage as error:
                await self.tell(wrong(str(error)))
                continue
            if kind == CLOSE_STREAM:
                return EOS
            if kind == CONFIGURE:
                await self.tell(configure_failure(self._id))
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
            await self.tell(*events)

    async def _finalize(self) -> bool:
        """Begin to answer a Finalize; tell whether a session is to be flushed for it."""
        if self._finalizes:
            await self._answer()
        self._finalizes = True
        if not self._received:  # a container's results would be waited for
            await self._answer()
            return False
        self._late = asyncio.create_task(self._answer_late(), name=f"{self._id}-finalize")
        return bool(self._asked.bytes_per_second)

    # ---- what the sessions answer ------------------------------------------------------------------------------------

    def request(self, start_ts: float) -> StreamRequest:
        """Return what the next session is asked for."""
        return self._asked.request(start_ts)

    async def send(self, text: str) -> None:
        """Send the messages of a response. Other responses than partials and finals cannot be told."""
        try:
            message = parse_message(text)
        except ValueError:
            return
        if not isinstance(message, Partial | Final):
            return
        self._answered_at = self._loop.time()
        self._said = max(self._said, message.end_ts)
        if not (self._finalizes and isinstance(message, Final)):
            await self.tell(*self._results.messages_for(message))
            return
        if self._held is not None:
            held, self._held = self._held, message
            await self.tell(*self._results.messages_for(held))
        self._held = message
        if not self._asked.bytes_per_second:
            await self._answer()

    async def flushed(self) -> None:
        """Answer the Finalize that asked for it, unless that took too long."""
        await self._answer()

    async def _answer(self) -> None:
        if not self._finalizes:
            return
        held, self._held, self._finalizes = self._held, None, False
        if self._late is not None and self._late is not asyncio.current_task():
            self._late.cancel()
        if held is None:
            await self.tell(self._results.empty(self._now))
        else:
            await self.tell(*self._results.messages_for(held, from_finalize=True))

    async def _answer_late(self) -> None:
        await asyncio.sleep(PATIENCE)
        await self._answer()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def ended(self, totals: Totals) -> None:
        """Count what a session has heard."""
        self._heard += totals.received

    async def stop(self) -> None:
        """Answer no Finalize any more."""
        if self._late is not None:
            await cancel_and_wait(self._late)

    async def finish(self) -> None:
        """Send the last message."""
        await self._answer()
        await self.tell(self._results.metadata(self._now, self._created, self._hash.hexdigest()))

    @property
    def _now(self) -> float:
        """Seconds of audio so far; of a container, as far as they are known."""
        rate = self._asked.bytes_per_second
        return self._received / rate if rate else self._heard or self._said
