"""OpenAI's realtime transcription, `speechbridge.protocol.openai` over successive sessions, and its client secrets."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.responses import JSONResponse

from speechbridge.protocol.api_errors import ApiError
from speechbridge.protocol.close import Close, CloseCode, fit_reason
from speechbridge.protocol.messages import Final, Partial, parse_message
from speechbridge.protocol.openai import (
    APPEND,
    BETA_UPDATE,
    CLEAR,
    CLIENT_SECRETS,
    COMMIT,
    REALTIME,
    SECRET_BYTES,
    Event,
    Settings,
    WrongEvent,
    ending,
    read,
    read_secret_request,
)
from speechbridge.protocol.openai_items import Items
from speechbridge.protocol.query import parameters
from speechbridge.protocol.request import StreamRequest
from speechbridge.server.body import Body, Left
from speechbridge.server.endpoints.connection import EventWriter, WebSocketConnection
from speechbridge.server.limits import Refused
from speechbridge.server.successive import FLUSH, ReadAhead, bytes_per_second, run_successively

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from speechbridge.protocol.request import Option
    from speechbridge.server.client import ClientConnection
    from speechbridge.server.client_secrets import ClientSecret, MakeSecret
    from speechbridge.server.session import Sessions

BETA = "realtime=v1"  # in the header OpenAI-Beta
INTENTS = ("", "transcription")
TOO_LARGE = 413
NOT_STORED = {"cache-control": "no-store"}


def router(sessions: Sessions, make_client_secret: MakeSecret) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()

    @routes.post(CLIENT_SECRETS, include_in_schema=False)
    async def make_secret(request: Request) -> Response:
        """Make a client secret for the owner of the request's key."""
        body = Body(request.receive, SECRET_BYTES)
        try:
            given = b""
            while piece := await body.read():
                given += piece
            seconds, settings = read_secret_request(given)
            value, secret = await make_client_secret(request.scope["lease"].owner, seconds, settings)
        except WrongEvent as wrong:
            return _failed(ApiError(400, str(wrong), code=wrong.code, param=wrong.param))
        except Refused as refused:
            return _failed(ApiError.of(refused.close))
        except ApiError as error:
            text = f"a request for a client secret has {SECRET_BYTES} bytes at most"
            return _failed(ApiError(TOO_LARGE, text) if error.status == TOO_LARGE else error)
        except Left:
            return Response()
        session = settings.shown(_session_id()) | {"expires_at": secret.expires_at}
        return JSONResponse({"value": value, "expires_at": secret.expires_at, "session": session}, headers=NOT_STORED)

    @routes.websocket(REALTIME)
    async def transcribe(socket: WebSocket) -> None:
        """OpenAI's realtime transcription. A refusal is an `error` event, and then a close frame."""
        await socket.accept()
        connection = WebSocketConnection(socket)
        query = parameters(socket.scope["query_string"].decode("latin-1"))
        secret: ClientSecret | None = socket.scope.get("client_secret")
        settings = (secret.settings if secret else Settings()).with_model(query.get("model", ""))
        client = OpenAiConnection(connection, settings, is_beta=socket.headers.get("openai-beta", "") == BETA)
        close = refusal(query)
        with sessions.held.one():  # a drain waits until the last event is sent
            if close is None:
                await client.greet()
                close = await run_successively(sessions, client)
            if close.code != CloseCode.NORMAL:
                await client.write(ending(close))
            await connection.close(close)

    return routes


def _failed(error: ApiError) -> Response:
    return Response(error.encode(), error.status, media_type="application/json")


def _session_id() -> str:
    return f"sess_{secrets.token_urlsafe(15)}"


def encode(event: Mapping[str, Any]) -> str:
    """Write an event, with an id."""
    return json.dumps({"event_id": f"event_{secrets.token_urlsafe(15)}", **event})


def refusal(query: Mapping[str, str]) -> Close | None:
    """Return why a request cannot be served; None if it can."""
    if (intent := query.get("intent", "")) not in INTENTS:
        return Close(
            CloseCode.BAD_REQUEST, fit_reason(f"intent={intent[:40]!r} is not served here: send transcription")
        )
    if "call_id" in query:
        return Close(CloseCode.BAD_REQUEST, "call_id: calls over WebRTC and SIP are not served here")
    return None


class OpenAiConnection:
    """A client of OpenAI's API. Implements `FlushableConnection` of successive sessions.

    Audio is counted in seconds: how much was received, up to where it was flushed, and up to where it was committed.
    """

    def __init__(self, connection: ClientConnection, settings: Settings, *, is_beta: bool) -> None:
        self.write = EventWriter(connection, encode).write
        self._ahead = ReadAhead(connection)
        self._id = _session_id()
        self._settings = settings
        self._items = Items(lambda: f"item_{secrets.token_urlsafe(15)}")
        self._items.is_beta = is_beta
        self._configure_items()
        self._is_beta = is_beta
        self._received = self._flushed = self._committed = 0.0

    async def greet(self) -> None:
        """Send the first event."""
        await self.write({"type": "session.created", "session": self._shown()})

    # ---- events of the client ----------------------------------------------------------------------------------------

    async def receive(self) -> bytes | str | None:
        """Return the next audio, FLUSH, or None once the client has left. Other events are answered meanwhile."""
        while (message := await self._ahead.receive()) is not None:
            event_id = None
            try:
                event = read(message)
                event_id = event.event_id
                events, result = self._take(event)
            except WrongEvent as wrong:
                wrong.event_id = wrong.event_id or event_id
                events, result = [wrong.encode()], b""
            if events:
                await self.write(*events)
            if result:
                return result
        return None

    def _take(self, event: Event) -> tuple[Sequence[Mapping[str, Any]], bytes | str]:
        """Return the answers to an event, and what it means for the sessions: audio, FLUSH, or nothing."""
        if event.type == APPEND:
            self._received += len(event.audio) / (bytes_per_second(self._settings.content_type) or 1)
            return [], event.audio
        if event.type == COMMIT:
            events = self._items.commit(self._committed, self._received)
            self._committed = self._received
            return events, self._flush()
        if event.type == CLEAR:
            self._committed = self._received
            events = self._items.clear()
            return events, self._flush()
        before, self._settings = self._settings, self._settings.updated(event.session)
        self._configure_items()
        is_beta = event.type == BETA_UPDATE
        kind = "transcription_session.updated" if is_beta else "session.updated"
        shown = self._settings.shown_beta(self._id) if is_beta else self._settings.shown(self._id)
        is_other = _request(before) != _request(self._settings) and self._received > self._flushed
        return [{"type": kind, "session": shown}], self._flush() if is_other else b""

    def _configure_items(self) -> None:
        self._items.has_vad = self._settings.turn_detection is not None
        self._items.has_logprobs = self._settings.has_logprobs

    def _flush(self) -> str:
        self._flushed = self._received
        return FLUSH

    async def left(self) -> None:
        """Return once the client has left."""
        await self._ahead.left()

    # ---- calls of the sessions ---------------------------------------------------------------------------------------

    def request(self, start_ts: float) -> StreamRequest:
        """Return the request for the next session."""
        request = _request(self._settings)
        times = {"start_ts": start_ts} if start_ts else {}
        return replace(request, options={**request.options, **times})

    async def send(self, text: str) -> None:
        """Send the events of a partial or a final. The protocol has no events for other responses."""
        try:
            message = parse_message(text)
        except ValueError:
            return
        if isinstance(message, Partial | Final) and (events := self._items.add(message)):
            await self.write(*events)

    async def flushed(self) -> None:
        """Send the events that end the flushed item."""
        if events := self._items.flushed():
            await self.write(*events)

    def _shown(self) -> dict[str, Any]:
        return self._settings.shown_beta(self._id) if self._is_beta else self._settings.shown(self._id)


def _request(settings: Settings) -> StreamRequest:
    options: dict[str, Option] = {"language": settings.language} if settings.language else {}
    if settings.has_logprobs:
        options["detailed_partials"] = True
    return StreamRequest(settings.content_type, options)
