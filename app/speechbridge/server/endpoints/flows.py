"""The flows of `/ws`, any number on one connection. `speechbridge.protocol.flows` describes them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import APIRouter, WebSocket
from websockets.exceptions import ConnectionClosed

from speechbridge.client.dial import NoConnection, dial
from speechbridge.protocol.address import Address
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.flows import (
    AUDIO,
    ECHO,
    END_OF_FILE,
    EOF,
    ERROR,
    EXTERNAL,
    FILE,
    PATH,
    PROXY,
    STORED,
    TEXT,
    TRANSCRIBED,
    no_flow,
)
from speechbridge.protocol.messages import EOS
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.server.endpoints.connection import WebSocketConnection

if TYPE_CHECKING:
    from typing import Self

    from speechbridge.server.client import ClientConnection
    from speechbridge.server.session import Sessions
    from speechbridge.settings import FlowSettings

BATCH = 2**18  # bytes gathered before a thread writes them; clients often send chunks of 1,024 bytes


class Left(Exception):
    """The client has left in the middle of a flow."""


class FlowError(Exception):
    """A flow has failed. The text is for the client."""


class Rejected(FlowError):
    """A flow has failed while its input still arrives.

    The rest of that input is skipped: binary messages, up to one of `end`, or to the name of the next flow.
    """

    def __init__(self, text: str, end: tuple[str | bytes, ...]) -> None:
        super().__init__(text)
        self.end = end


def router(sessions: Sessions, settings: FlowSettings) -> APIRouter:
    """Make the route."""
    routes = APIRouter()
    named = {
        TEXT: _text,
        FILE: _File(settings).receive,
        PROXY: _Proxy(settings).ask,
        AUDIO: _Audio(sessions).transcribe,
    }

    @routes.websocket(PATH)
    async def run_flows(socket: WebSocket) -> None:
        """Run the flows that a client names."""
        await socket.accept()
        connection = WebSocketConnection(socket)
        skipping: tuple[str | bytes, ...] = ()  # messages that end the rest of a rejected input
        with suppress(Left):
            while True:
                name = await _next(connection)
                if skipping and (isinstance(name, bytes) or name in skipping):
                    skipping = () if name in skipping else skipping
                    continue
                skipping = ()
                flow = named.get(name) if isinstance(name, str) else None
                try:
                    answer = await flow(connection) if flow else no_flow(name)
                except FlowError as error:
                    answer = f"{ERROR}{error}"
                    skipping = error.end if isinstance(error, Rejected) else ()
                await connection.send(answer)

    return routes


async def _next(connection: ClientConnection) -> bytes | str:
    message = await connection.receive()
    if message is None:
        raise Left
    return message


async def _next_text(connection: ClientConnection, flow: str) -> str:
    message = await _next(connection)
    if isinstance(message, bytes):
        raise FlowError(f"{flow} takes a text message, not a binary one")
    return message


async def _text(connection: ClientConnection) -> str:
    return f"{ECHO}{await _next_text(connection, TEXT)}"


class _File:
    """Stores binary messages as a file, up to EOF: the whole file, or nothing."""

    def __init__(self, settings: FlowSettings) -> None:
        self._directory = settings.files_dir
        self._max_size = settings.max_file_bytes

    async def receive(self, connection: ClientConnection) -> str:
        try:
            with _Upload(self._directory) as upload:
                await self._fill(upload, connection)
                await anyio.to_thread.run_sync(upload.keep)
        except OSError as error:
            raise Rejected(f"the file cannot be stored: {error.strerror}", END_OF_FILE) from None
        return STORED

    async def _fill(self, upload: _Upload, connection: ClientConnection) -> None:
        batch, size = bytearray(), 0
        while (chunk := await _next(connection)) not in END_OF_FILE:
            if isinstance(chunk, str):
                raise FlowError(f"file takes binary messages, then {EOF}; nothing was stored")
            size += len(chunk)
            if size > self._max_size:
                raise Rejected(f"the file is larger than {self._max_size} bytes; nothing was stored", END_OF_FILE)
            batch += chunk
            if len(batch) >= BATCH:
                await anyio.to_thread.run_sync(upload.write, batch)
                batch = bytearray()
        await anyio.to_thread.run_sync(upload.write, batch)


class _Upload:
    """A file under a temporary name. Leaving the context deletes it, unless it was kept. The methods block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._directory)
        self._temporary = Path(name)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)

    def write(self, data: bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def keep(self) -> None:
        """Give the file its final name: the time, and mkstemp's random part. The client chooses no part of it."""
        os.fsync(self._descriptor)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._temporary.rename(self._directory / f"{stamp}-{self._temporary.stem.strip('.')}")


class _Proxy:
    """Asks another WebSocket server, with a connection for each question."""

    def __init__(self, settings: FlowSettings) -> None:
        self._address = Address.parse(settings.proxy_url) if settings.proxy_url else None
        self._timeout = settings.proxy_seconds
        self._max_size = settings.max_message_bytes

    async def ask(self, connection: ClientConnection) -> str:
        question = await _next_text(connection, PROXY)
        if self._address is None:
            raise FlowError("there is no external server: SPEECHBRIDGE_PROXY_URL is not set")
        try:
            async with (
                asyncio.timeout(self._timeout),
                dial(self._address, open_timeout=self._timeout, max_size=self._max_size) as external,
            ):
                await external.send(question)
                answer = await external.recv()
        except NoConnection as error:
            raise FlowError(str(error)) from None
        except TimeoutError:
            raise FlowError(f"the external server did not answer within {self._timeout:g} s") from None
        except ConnectionClosed:
            raise FlowError("the external server closed without an answer") from None
        try:
            return f"{EXTERNAL}{answer if isinstance(answer, str) else answer.decode()}"
        except UnicodeDecodeError:
            raise FlowError("the external server answered with bytes that are not UTF-8") from None


class _UntilEos:
    """A connection for the session of a flow: it ends with EOS, so that later messages are left to the next flow."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.ended = False
        self.left = False

    async def receive(self) -> bytes | str | None:
        if self.ended:
            await asyncio.Event().wait()  # the session cancels this when it ends
        message = await self._connection.receive()
        self.ended = message == EOS
        self.left = message is None
        return message

    async def send(self, text: str) -> None:
        await self._connection.send(text)


class _Audio:
    """Transcribes audio as /ws_a does, as one of several flows."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def transcribe(self, connection: ClientConnection) -> str:
        audio = _UntilEos(connection)
        close = await self._sessions.run(audio, StreamRequest(ContentType.undeclared(ContentType.raw())))
        if audio.left:
            raise Left
        if not audio.ended:
            raise Rejected(f"the transcription ended early, with {close}", (EOS,))
        if close.code != CloseCode.NORMAL:
            raise FlowError(f"the transcription ended with {close}")
        return TRANSCRIBED
