"""Rev.ai's streaming protocol, served by any recognizer.

Each WebSocket is accepted, and refused with a close frame if necessary. The server sends `connected`, receives audio
until `EOS`, sends the hypotheses, and closes the connection. There is back-pressure in both directions: audio is read
from the socket only as fast as it is recognised, and hypotheses are made only as fast as the client reads them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from speechbridge.protocol.close import END_OF_INPUT, NO_DATA, Close, CloseCode, fit_reason
from speechbridge.protocol.messages import EOS, Connected
from speechbridge.protocol.request import BadRequest, StreamRequest

if TYPE_CHECKING:
    from speechbridge.protocol.messages import Final, Partial
    from speechbridge.recognizer.server import Connection

IDLE_SECONDS = 60.0  # seconds without any frame; how long Rev.ai waits is not documented


class Refused(Exception):
    """A recognizer cannot begin or continue a stream. `close` tells the client why, and whether to try again."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close


class Recognition(Protocol):
    """One stream at a recognizer. One task feeds it, another takes its hypotheses."""

    @property
    def piece(self) -> int:
        """Most bytes for one `feed`: few enough that other streams do not wait long."""

    async def feed(self, audio: bytes) -> None:
        """Take some bytes of audio, `piece` at most. Raises BadRequest or Refused."""

    async def finish(self) -> None:
        """Take no more audio, and decode the rest. Raises BadRequest or Refused."""

    async def next(self) -> Partial | Final | None:
        """Return the next hypothesis; None after the last, once `finish` was called. Cancellation: nothing is lost."""

    def close(self) -> None:
        """Free its resources, at any point. Idempotent."""


class Recognizer(Protocol):
    """Turns audio into words."""

    def open(self, request: StreamRequest) -> Recognition:
        """Begin a stream, without waiting. Raises BadRequest for an unsupported request, Refused when all are busy."""


class RevAi:
    """Answers as Rev.ai does. It ignores access tokens: every client that can reach this server may use it."""

    def __init__(self, recognizer: Recognizer, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._recognizer = recognizer
        self._idle_seconds = idle_seconds

    async def admit(self, _connection: Connection) -> None:
        """Accept every client. Refusals are close frames, as SDKs do not read HTTP responses."""

    async def handle(self, connection: Connection) -> None:
        """Serve one stream until its close frame.

        Cancellation: safe at any point; the recognition is closed.
        """
        try:
            ending = await self._recognise(connection)
        except BadRequest as error:
            ending = Close(CloseCode.BAD_REQUEST, fit_reason(str(error)))
        except Refused as refused:
            ending = refused.close
        await connection.close(ending)

    async def _recognise(self, connection: Connection) -> Close:
        recognition = self._recognizer.open(StreamRequest.parse(connection.query))
        tasks = {
            asyncio.create_task(self._receive(recognition, connection)),
            asyncio.create_task(_send(recognition, connection)),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            recognition.close()
        for task in tasks:
            if not task.cancelled():
                task.result()
        return Close(CloseCode.NORMAL, END_OF_INPUT)

    async def _receive(self, recognition: Recognition, connection: Connection) -> None:
        await connection.send(Connected(connection.id).encode())
        try:
            while (message := await connection.receive(self._idle_seconds)) != EOS:
                if isinstance(message, str):
                    text = f"send audio as binary messages, and {EOS} as the only text"
                    raise Refused(Close(CloseCode.INVALID, text))
                await _feed(message, recognition, connection)
        except TimeoutError:
            raise Refused(Close(CloseCode.NORMAL, NO_DATA)) from None
        await recognition.finish()


async def _feed(message: bytes, recognition: Recognition, connection: Connection) -> None:
    rest = memoryview(message)
    while rest:
        connection.check()  # a long message is not decoded once the client has left
        piece, rest = rest[: recognition.piece], rest[recognition.piece :]
        await recognition.feed(bytes(piece))


async def _send(recognition: Recognition, connection: Connection) -> None:
    while (hypothesis := await recognition.next()) is not None:
        await connection.send(hypothesis.encode())
