"""The flows of `/ws`, which `speechbridge.protocol.flows` describes: any number on one connection."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
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

    from speechbridge.server.session import Line, Sessions

BATCH = 2**18  # bytes gathered before a thread writes them: a guide's chunks are 1,024 bytes


@dataclass(frozen=True, slots=True)
class Flows:
    """What the flows need. Sizes in bytes, times in seconds."""

    sessions: Sessions
    files: Path
    max_file: int
    max_message: int
    proxy: str  # a WebSocket URL; empty means that nobody set one
    proxy_timeout: float


class Left(Exception):
    """The client has left in the middle of a flow."""


class Wrong(Exception):
    """A flow cannot go on. Its text goes to the client."""


class Refused(Wrong):
    """Something is not taken, while its rest is on the way: binary messages, until an end or the next flow's name."""

    def __init__(self, text: str, end: tuple[str | bytes, ...]) -> None:
        super().__init__(text)
        self.end = end


def router(flows: Flows) -> APIRouter:
    """Make the route."""
    routes = APIRouter()
    named = {
        TEXT: _text,
        FILE: _File(flows).receive,
        PROXY: _Proxy(flows).ask,
        AUDIO: _Audio(flows).transcribe,
    }

    @routes.websocket(PATH)
    async def converse(socket: WebSocket) -> None:
        """Run the flows that a client names."""
        await socket.accept()
        line = WebSocketConnection(socket)
        skipping: tuple[str | bytes, ...] = ()  # what ends the rest of something that was refused
        with suppress(Left):
            while True:
                name = await _next(line)
                if skipping and (isinstance(name, bytes) or name in skipping):
                    skipping = () if name in skipping else skipping
                    continue
                skipping = ()
                flow = named.get(name) if isinstance(name, str) else None
                try:
                    answer = await flow(line) if flow else no_flow(name)
                except Wrong as error:
                    answer = f"{ERROR}{error}"
                    skipping = error.end if isinstance(error, Refused) else ()
                await line.send(answer)

    return routes


async def _next(line: Line) -> bytes | str:
    message = await line.receive()
    if message is None:
        raise Left
    return message


async def _next_text(line: Line, flow: str) -> str:
    message = await _next(line)
    if isinstance(message, bytes):
        raise Wrong(f"{flow} takes a text message, not a binary one")
    return message


async def _text(line: Line) -> str:
    return f"{ECHO}{await _next_text(line, TEXT)}"


class _File:
    """Stores what comes until EOF, whole or not at all."""

    def __init__(self, flows: Flows) -> None:
        self._folder = flows.files
        self._max_size = flows.max_file

    async def receive(self, line: Line) -> str:
        try:
            with _Upload(self._folder) as upload:
                await self._fill(upload, line)
                await anyio.to_thread.run_sync(upload.keep)
        except OSError as error:
            raise Refused(f"the file cannot be stored: {error.strerror}", END_OF_FILE) from None
        return STORED

    async def _fill(self, upload: _Upload, line: Line) -> None:
        batch, size = bytearray(), 0
        while (chunk := await _next(line)) not in END_OF_FILE:
            if isinstance(chunk, str):
                raise Wrong(f"file takes binary messages, then {EOF}; nothing was stored")
            size += len(chunk)
            if size > self._max_size:
                raise Refused(f"the file is larger than {self._max_size} bytes; nothing was stored", END_OF_FILE)
            batch += chunk
            if len(batch) >= BATCH:
                await anyio.to_thread.run_sync(upload.write, batch)
                batch = bytearray()
        await anyio.to_thread.run_sync(upload.write, batch)


class _Upload:
    """A file under a temporary name, gone when the context is left, unless it was kept. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._folder)
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
        """Give it its name: when it came, and what mkstemp made up. Nothing of it is the client's."""
        os.fsync(self._descriptor)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._temporary.rename(self._folder / f"{stamp}-{self._temporary.stem.strip('.')}")


class _Proxy:
    """Asks another WebSocket server, one connection a question."""

    def __init__(self, flows: Flows) -> None:
        self._address = Address.parse(flows.proxy) if flows.proxy else None
        self._timeout = flows.proxy_timeout
        self._max_size = flows.max_message

    async def ask(self, line: Line) -> str:
        question = await _next_text(line, PROXY)
        if self._address is None:
            raise Wrong("there is no external server: SPEECHBRIDGE_PROXY_URL is not set")
        try:
            async with (
                asyncio.timeout(self._timeout),
                dial(self._address, open_timeout=self._timeout, max_size=self._max_size) as external,
            ):
                await external.send(question)
                answer = await external.recv()
        except NoConnection as error:
            raise Wrong(str(error)) from None
        except TimeoutError:
            raise Wrong(f"the external server did not answer within {self._timeout:g} s") from None
        except ConnectionClosed:
            raise Wrong("the external server closed without an answer") from None
        try:
            return f"{EXTERNAL}{answer if isinstance(answer, str) else answer.decode()}"
        except UnicodeDecodeError:
            raise Wrong("the external server answered with bytes that are no text") from None


class _UntilEos:
    """A line as a session sees it when the line goes on afterwards: what follows EOS is the next flow's."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.ended = False
        self.left = False

    async def receive(self) -> bytes | str | None:
        if self.ended:
            await asyncio.Event().wait()  # until the session, which has all it needs, cancels its listener
        message = await self._line.receive()
        self.ended = message == EOS
        self.left = message is None
        return message

    async def send(self, text: str) -> None:
        await self._line.send(text)


class _Audio:
    """The transcription of /ws_a, in the middle of a connection."""

    def __init__(self, flows: Flows) -> None:
        self._sessions = flows.sessions

    async def transcribe(self, line: Line) -> str:
        audio = _UntilEos(line)
        close = await self._sessions.run(audio, StreamRequest(ContentType.raw()))
        if audio.left:
            raise Left
        if not audio.ended:
            raise Refused(f"the transcription ended early, with {close}", (EOS,))
        if close.code != CloseCode.NORMAL:
            raise Wrong(f"the transcription ended with {close}")
        return TRANSCRIBED
