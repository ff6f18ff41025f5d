"""Shared transcripts, for readers with a token: `speechbridge.protocol.reading` describes the protocol.

Readers need no key. They are not sessions, and do not count towards the limits of keys and addresses; instead each
transcript has a limit of readers. Pages of any origin may read, because a browser does not send the token by itself, as
it does with a cookie.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from speechbridge.cluster import Unavailable
from speechbridge.cluster.transcript import Position
from speechbridge.protocol.captions import to_json, to_srt, to_text, to_vtt
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.reading import COMMENT, ENDED, PATH, READ_ONLY, TOO_MANY, UNKNOWN, end_event
from speechbridge.server.endpoints.connection import WebSocketConnection
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Receive, Scope, Send

    from speechbridge.cluster import Shares
    from speechbridge.cluster.transcript import Transcript

logger = logging.getLogger(__name__)

COMMENT_SECONDS = 15.0  # without an event, after which a comment is sent: many proxies close idle connections after 60
LONGEST_PAGE = 500  # characters of a page's address in a QR code

HEADERS = {
    "access-control-allow-origin": "*",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
FILES: dict[str, tuple[str, Callable[[Iterable[Final]], str]]] = {
    "srt": ("application/x-subrip; charset=utf-8", to_srt),
    "vtt": ("text/vtt; charset=utf-8", to_vtt),
    "txt": ("text/plain; charset=utf-8", to_text),
    "json": ("application/json", to_json),
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such transcript"}}
UNAVAILABLE = Close(CloseCode.UNAVAILABLE, "what is shared cannot be reached now: try again later")
LEAVING = Close(CloseCode.SHUTTING_DOWN, "the service is shutting down: connect again shortly")
STATUS = {UNKNOWN: 404, TOO_MANY: 429, UNAVAILABLE: 503}
DRAIN_SECONDS = 1.0  # for readers to get a speaker's last results


class Refused(Exception):
    """A reader is refused. `close` is its close frame; over HTTP, `STATUS` has the corresponding status."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close


class Readers:
    """Finds transcripts, and counts their readers: each may have at most `most` at once."""

    def __init__(self, shares: Shares, most: int) -> None:
        self._shares = shares
        self._most = most
        self._read: dict[int, Transcript] = {}  # by identity
        self._none_reads = asyncio.Event()
        self._none_reads.set()

    @property
    def reading(self) -> int:
        return sum(transcript.readers for transcript in self._read.values())

    async def find(self, token: str) -> Transcript:
        """Return a transcript. Raises Refused."""
        try:
            transcript = await self._shares.find(token)
        except Unavailable as error:
            logger.warning("a reader is refused: %s", error)
            raise Refused(UNAVAILABLE) from None
        if transcript is None:
            raise Refused(UNKNOWN)
        return transcript

    @asynccontextmanager
    async def counted(self, token: str, transcript: Transcript) -> AsyncIterator[None]:
        """Count a reader within an `async with` block. Raises Refused if there are too many.

        Cancellation: while it enters, the reader is not counted.
        """
        if not await self._shares.enter(token, transcript, self._most):
            raise Refused(TOO_MANY)
        self._read[id(transcript)] = transcript
        self._none_reads.clear()
        try:
            yield
        finally:
            self._shares.leave(token, transcript)
            if transcript.readers == 0:
                del self._read[id(transcript)]
            if not self._read:
                self._none_reads.set()

    async def drain(self) -> None:
        """Disconnect all readers once they have all messages so far. Return after DRAIN_SECONDS at the latest."""
        for transcript in self._read.values():
            transcript.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._none_reads.wait()


def router(readers: Readers) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(default_response_class=Response)

    @routes.websocket(PATH + "/{token}")
    async def read_along(socket: WebSocket, token: str) -> None:
        """Send the transcript as it grows, and close with 1000 after the end."""
        await socket.accept()
        connection = WebSocketConnection(socket)
        try:
            transcript = await readers.find(token)
            async with readers.counted(token, transcript):
                close = await _send(connection, transcript, _number(socket.query_params.get("after", "")))
        except Refused as refused:
            close = refused.close
        await connection.close(close)

    @routes.get(PATH + "/{token}.{ending}", responses=NOT_FOUND)
    async def file(token: str, ending: str, page: str = "") -> Response:
        """Return the finals so far as a file; or, as `.svg`, a QR code with the address of a `page` for readers."""
        transcript = await _found(readers, token)
        if ending == "svg":
            return _code(page, token)
        if ending not in FILES:
            raise HTTPException(404)
        media_type, write = FILES[ending]
        return Response(write(_finals(transcript)), headers=HEADERS, media_type=media_type)

    @routes.get(PATH + "/{token}", responses=NOT_FOUND)
    async def events(token: str, request: Request) -> Response:
        """Send the transcript as it grows as server-sent events, and the event `end` after the end."""
        transcript = await _found(readers, token)
        after = _number(request.headers.get("last-event-id", ""))
        if transcript.is_over and after > len(transcript.finals):
            return Response(status_code=204, headers=HEADERS)
        return _EventStream(readers.counted(token, transcript), transcript, after)

    return routes


async def _send(connection: WebSocketConnection, transcript: Transcript, after: int) -> Close:
    """Send a reader the messages after its first `after` finals; return the close frame for it."""

    async def send() -> None:
        position = Position(after)
        while await transcript.more(position):
            for entry in transcript.take(position):
                await connection.send(entry.text)
            await asyncio.sleep(0)  # let other tasks run while a long transcript is sent

    sending, receiving = asyncio.create_task(send()), asyncio.create_task(connection.receive())
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():
            return READ_ONLY
        sending.result()
        return ENDED if transcript.is_over else LEAVING
    finally:
        await cancel_and_wait(sending, receiving)


class _EventStream(StreamingResponse):
    """The messages after the first `after` finals, as server-sent events."""

    def __init__(self, counted: AbstractAsyncContextManager[None], transcript: Transcript, after: int) -> None:
        super().__init__(_events(transcript, after), headers=HEADERS, media_type="text/event-stream")
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._counted:
                if "counted" in scope:  # set by our own server, which limits connections that nothing else counts
                    scope["counted"]()
                await super().__call__(scope, receive, send)
        except Refused as refused:
            text = f"{refused.close.reason}\n"
            await PlainTextResponse(text, STATUS[refused.close], HEADERS)(scope, receive, send)


async def _events(transcript: Transcript, after: int) -> AsyncIterator[bytes]:
    position = Position(after)
    while True:
        try:
            async with asyncio.timeout(COMMENT_SECONDS):
                has_more = await transcript.more(position)
        except TimeoutError:
            yield COMMENT
            continue
        if not has_more:
            break
        yield b"".join(entry.event for entry in transcript.take(position))
    if transcript.is_over:
        yield end_event(len(transcript.finals))


async def _found(readers: Readers, token: str) -> Transcript:
    try:
        return await readers.find(token)
    except Refused as refused:
        raise HTTPException(STATUS[refused.close], refused.close.reason, HEADERS) from None


def _finals(transcript: Transcript) -> list[Final]:
    """Return the finals so far, without responses in other formats than Rev.ai's."""
    found = []
    for entry in transcript.finals:
        with suppress(ValueError):
            found.append(parse_message(entry.text))
    return [final for final in found if isinstance(final, Final)]


def _code(page: str, token: str) -> Response:
    """Return a QR code of a page's address with a token, as SVG. Raises HTTPException."""
    try:
        is_page = urlsplit(page).scheme in ("http", "https") and len(page) <= LONGEST_PAGE
    except ValueError:
        is_page = False
    if not is_page:
        raise HTTPException(422, "page: the address of a page, https://...")
    import segno  # noqa: PLC0415 # rarely needed, and it takes 0.1 s to import

    drawn = BytesIO()
    segno.make(f"{page}?read={token}", micro=False).save(drawn, kind="svg", border=2, light="#fff", xmldecl=False)
    return Response(drawn.getvalue(), headers=HEADERS, media_type="image/svg+xml")


def _number(text: str) -> int:
    """Parse how many finals a reader has; 0 if the text is not a number."""
    return int(text) if text.isdecimal() and len(text) < 9 else 0
