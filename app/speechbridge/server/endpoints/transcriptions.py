"""OpenAI's endpoint for whole files: a form with a file in, its transcript out, in one of five formats.

A file is handled like a stream: by admission, a session, processors and metrics. There are two ways to read it:

    live       if it can be decoded while it arrives, and the form's fields came before it. The session reads it from
               the network at the pace of the engine, and nothing is stored
    stored     if its decoder must seek in it (MP4 with its index at the end), if only FFmpeg's demuxers read its
               format, or if fields come after it. It is stored in a temporary file without a name, then decoded

The session's listener reads the form. The session itself only collects its results, and never waits for the client;
another task writes them. So a client that does not read before it has sent everything blocks nothing. If the client
leaves, everything is cancelled.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import IO, TYPE_CHECKING

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from speechbridge.codecs import decode_file, is_decodable
from speechbridge.protocol.api_errors import FAILED, ApiError
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import EOS, Final, parse_message
from speechbridge.protocol.request import BadRequest, ContentType, StreamRequest
from speechbridge.protocol.transcriptions import PATH, Form, Transcription, delta, done, texts_of
from speechbridge.server.body import Body, Left, announced, refuse, too_large
from speechbridge.server.multipart import FORM_BYTES, Multipart
from speechbridge.server.verdicts import DRAINED
from speechbridge.tasks import cancel_and_wait
from syncbridge import Bridge, Limits, Overloaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import Receive, Scope, Send

    from speechbridge.server.session import Sessions
    from speechbridge.server.totals import Totals
    from speechbridge.settings import TranscriptionSettings

TRY_AT = (2**12, 2**14, 2**16)  # numbers of bytes after which to try whether a file can be decoded while it arrives
BATCH = 2**18  # bytes that a thread writes at once
DECODED = Limits(inbound=1, outbound=8, grace=1.0)  # pieces of a second

Read = Callable[[], Awaitable[bytes]]
"""Returns the next bytes; empty at the end."""


def router(sessions: Sessions, settings: TranscriptionSettings, language: str) -> APIRouter:
    """Make the route. `language` is the one reported for files whose clients name none."""
    routes = APIRouter()
    # Opening a file may occupy a core for seconds. Live streams must not wait for that, however many files there are.
    opening = asyncio.Semaphore(max(1, (os.cpu_count() or 1) // 2))

    @routes.post(PATH, include_in_schema=False)
    async def transcribe(request: Request) -> Response:
        """Transcribe a file, sent as `multipart/form-data`."""
        content_type = request.headers.get("content-type", "")
        return _Transcription(sessions, settings, language, opening, content_type)

    return routes


class _Transcription(Response):
    """The answer to one request."""

    def __init__(
        self,
        sessions: Sessions,
        settings: TranscriptionSettings,
        language: str,
        opening: asyncio.Semaphore,
        content_type: str,
    ) -> None:
        super().__init__()
        self._sessions = sessions
        self._most = settings.max_upload_bytes
        self._directory = settings.files_dir
        self._language = language
        self._opening = opening
        self._content_type = content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive, self._most + FORM_BYTES)
        answering = asyncio.create_task(self._answer(body, announced(scope["headers"]), send), name="transcription")
        leaving = asyncio.create_task(body.until_left(), name="transcription-leaving")
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(answering, leaving)
        if not answering.cancelled():
            with suppress(Left):
                answering.result()

    async def _answer(self, body: Body, size: int, send: Send) -> None:
        answer = _Answer(send)
        try:
            if self._sessions.draining:
                raise ApiError.of(DRAINED[1])
            if size > self._most + FORM_BYTES:
                raise too_large(self._most)
            upload = _Upload(Multipart(body, self._content_type), self._most, self._language)
            await self._transcribe(upload, answer)
        except ApiError as error:
            if answer.has_begun:
                await answer.fail(error)
            else:
                await refuse(error, body, send)

    async def _transcribe(self, upload: _Upload, answer: _Answer) -> None:
        await upload.begin()
        if upload.asked.has_model and await upload.is_live():
            await self._run_session(upload, upload.next, ContentType.undeclared(), answer)
            return
        directory = self._directory if self._directory.is_dir() else None  # None: the system's
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                await upload.store(file)
                async with self._decoding(file) as read:
                    await self._run_session(upload, read, ContentType.raw(), answer)
        except OSError as error:
            text = f"the file cannot be stored: {error.strerror}"
            raise ApiError(503, text, kind=FAILED, code="overloaded") from None

    @asynccontextmanager
    async def _decoding(self, file: IO[bytes]) -> AsyncIterator[Read]:
        bridge: Bridge[bytes, bytes] = Bridge(
            lambda _nothing: decode_file(file.fileno()),
            limits=DECODED,
            pool=self._sessions.decoders,
            name="file-decoder",
        )
        async with self._opening, AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(bridge)
                bridge.end()
                begun = [await anext(bridge)]
            except Overloaded:
                raise ApiError.of(Close(CloseCode.TOO_MANY, "all decoders are in use: try again shortly")) from None
            except BadRequest as error:
                raise _no_audio(error) from None
            decoding = stack.pop_all()

        async def read() -> bytes:
            return begun.pop() if begun else await anext(bridge, b"")

        async with decoding:
            yield read

    async def _run_session(self, upload: _Upload, read: Read, kind: ContentType, answer: _Answer) -> None:
        """Run a session with audio of this kind, and answer with its results."""
        connection, language = _FileConnection(read), upload.asked.language
        request = StreamRequest(kind, {"language": language} if language else {})
        running = asyncio.create_task(
            self._sessions.run(connection, request, ended=connection.end), name="transcription-session"
        )
        running.add_done_callback(lambda _task: connection.woken.set())
        try:
            while not running.done():
                await connection.woken.wait()
                connection.woken.clear()
                if connection.error is not None:
                    raise connection.error
                if upload.asked.is_streamed:
                    await answer.deltas(connection.finals, upload.asked)
        finally:
            await cancel_and_wait(running)
        close = running.result()
        if close.code == CloseCode.UNAUTHORIZED:  # our own token is wrong, and not the client's key
            raise ApiError(502, f"the speech service refuses our token: {close.reason}", kind=FAILED)
        if close.code != CloseCode.NORMAL:
            raise ApiError.of(close)
        transcription = Transcription(connection.finals, connection.seconds, language or self._language)
        if upload.asked.is_streamed:
            await answer.finish(transcription, upload.asked)
        else:
            await answer.whole(*transcription.answer(upload.asked))


class _Upload:
    """The form of a request: the fields received so far (`asked`), and the file."""

    def __init__(self, form: Multipart, most: int, language: str) -> None:
        self._form = form
        self._most = most
        self._language = language
        self._size = 0  # bytes of the file
        self._begun = b""
        self.asked = Form()

    async def begin(self) -> None:
        """Read the fields before the file."""
        await self._form.begin()
        self.asked = Form.read(self._form.fields)

    async def is_live(self) -> bool:
        """Read the first bytes of the file. Returns whether it can be decoded while it arrives."""
        for enough in TRY_AT:
            while len(self._begun) < enough and (piece := await self._read()):
                self._begun += piece
            if await anyio.to_thread.run_sync(is_decodable, self._begun):
                return True
        return False

    async def next(self) -> bytes:
        """Return the next bytes of the file as they arrive; empty at its end, after the last fields were read."""
        if piece := self._begun or await self._read():
            self._begun = b""
            return piece
        before = self.asked.language or self._language
        await self._finish()
        if (self.asked.language or self._language) != before:
            text = "the language came after the file, which was transcribed in another: send it before the file"
            raise ApiError(400, text, param="language")
        return b""

    async def store(self, file: IO[bytes]) -> None:
        """Write the upload to a file, and seek to its beginning; read the fields after the upload."""
        batch, has_ended = bytearray(self._begun), False
        while not has_ended:
            piece = await self._read()
            has_ended = not piece
            batch += piece
            if has_ended or len(batch) >= BATCH:
                await anyio.to_thread.run_sync(file.write, bytes(batch))
                batch.clear()
        await anyio.to_thread.run_sync(file.seek, 0)
        await self._finish()

    async def _read(self) -> bytes:
        piece = await self._form.read()
        self._size += len(piece)
        if self._size > self._most:
            raise too_large(self._most)
        return piece

    async def _finish(self) -> None:
        await self._form.finish()
        if not self._size:
            raise ApiError(400, "the file is empty", param="file")
        self.asked = Form.read(self._form.fields)


class _FileConnection:
    """A session's connection that receives a file, and collects the finals. Implements `ClientConnection`."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._has_ended = False
        self.woken = asyncio.Event()  # there are more finals, or an error, or the session has ended
        self.finals: list[Final] = []
        self.seconds = 0.0
        self.error: ApiError | Left | None = None

    async def receive(self) -> bytes | str | None:
        """Return the next piece of the file, or EOS at its end. After that, or an error, wait until cancelled."""
        if not self._has_ended:
            try:
                piece = await self._read()
            except BadRequest as error:
                self._fail(_no_audio(error))
            except (ApiError, Left) as error:
                self._fail(error)
            else:
                self._has_ended = not piece
                return piece or EOS
        await asyncio.Event().wait()
        return None

    async def send(self, text: str) -> None:
        """Keep a final, and ignore other responses."""
        with suppress(ValueError):
            message = parse_message(text)
            if isinstance(message, Final):
                self.finals.append(message)
                self.woken.set()

    def end(self, totals: Totals) -> None:
        self.seconds = totals.received

    def _fail(self, error: ApiError | Left) -> None:
        self.error = error
        self.woken.set()


def _no_audio(error: BadRequest) -> ApiError:
    return ApiError(400, str(error), code="invalid_file", param="file")


class _Answer:
    """The response: whole, or as server-sent events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._seen = 0  # finals
        self.has_begun = False

    async def whole(self, text: str, media: str) -> None:
        data = text.encode()
        await self._begin((b"content-type", media.encode()), (b"content-length", b"%d" % len(data)))
        await self._send({"type": "http.response.body", "body": data})

    async def deltas(self, finals: Sequence[Final], asked: Form) -> None:
        """Send the finals that were not sent yet."""
        new, self._seen = finals[self._seen :], len(finals)
        for final, text in texts_of(new, is_first=not self.has_begun):
            await self._event(delta(final, text, has_logprobs=asked.has_logprobs))

    async def finish(self, transcription: Transcription, asked: Form) -> None:
        """Send the remaining finals, and the last event."""
        await self.deltas(transcription.finals, asked)
        await self._event(done(transcription, has_logprobs=asked.has_logprobs))
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, error: ApiError) -> None:
        """Send an error as the last event."""
        await self._event(error.encode().decode())
        await self._send({"type": "http.response.body", "body": b""})

    async def _event(self, data: str) -> None:
        await self._begin((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"))
        await self._send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

    async def _begin(self, *headers: tuple[bytes, bytes]) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})
