"""A conversation as Rev.ai's streaming service leads it, with any recognizer behind.

It accepts first and refuses by close frame, says `connected`, hears audio until `EOS`, says what was heard, and
closes. Audio is taken from the client only as fast as it is recognised, so nothing piles up here; hypotheses are
sent only as fast as the client reads them, so nothing piles up there either.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from speechbridge.protocol.close import END_OF_INPUT, NO_DATA, Close, CloseCode, fit_reason
from speechbridge.protocol.messages import EOS, Connected
from speechbridge.protocol.request import BadRequest, StreamRequest

if TYPE_CHECKING:
    from speechbridge.protocol.messages import Final, Partial
    from speechbridge.recognizer.server import Line

PATIENCE = 60.0  # seconds without any frame; how long Rev.ai waits is not documented


class Refused(Exception):
    """A recognizer cannot begin, or cannot go on; `close` tells the client why and whether to try again."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close


class Recognition(Protocol):
    """One stream at a recognizer. One task feeds it, another takes what it says."""

    @property
    def piece(self) -> int:
        """How many bytes it takes at once: few enough that other streams do not wait long."""

    async def feed(self, audio: bytes) -> None:
        """Hear some bytes, `piece` at most. Raises BadRequest or Refused."""

    async def finish(self) -> None:
        """Hear no more, and say the rest. Raises BadRequest or Refused."""

    async def next(self) -> Partial | Final | None:
        """Return what is said next; None when everything was, after `finish`. Cancellation: nothing is lost."""

    def close(self) -> None:
        """Free what it holds, however far it is. Idempotent."""


class Recognizer(Protocol):
    """What turns audio into words."""

    def open(self, request: StreamRequest) -> Recognition:
        """Take a place at once. Raises BadRequest for what it cannot do, Refused when it is full."""


class RevAi:
    """Answers as Rev.ai does. Access tokens are ignored: whoever reaches this server may use it."""

    def __init__(self, recognizer: Recognizer, *, patience: float = PATIENCE) -> None:
        self._recognizer = recognizer
        self._patience = patience

    async def admit(self, _line: Line) -> None:
        """Let everybody in: refusals are close frames, as SDKs read no HTTP."""

    async def converse(self, line: Line) -> None:
        """Lead one conversation to its close frame.

        Cancellation: safe at any point; the recognizer's place is given back.
        """
        try:
            ending = await self._hear(line)
        except BadRequest as error:
            ending = Close(CloseCode.BAD_REQUEST, fit_reason(str(error)))
        except Refused as refused:
            ending = refused.close
        await line.close(ending)

    async def _hear(self, line: Line) -> Close:
        recognition = self._recognizer.open(StreamRequest.parse(line.query))
        tasks = {asyncio.create_task(self._listen(recognition, line)), asyncio.create_task(_say(recognition, line))}
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

    async def _listen(self, recognition: Recognition, line: Line) -> None:
        await line.say(Connected(line.id).encode())
        try:
            while (message := await line.receive(self._patience)) != EOS:
                if isinstance(message, str):
                    text = f"send audio as binary messages, and {EOS} as the only text"
                    raise Refused(Close(CloseCode.INVALID, text))
                await _feed(message, recognition, line)
        except TimeoutError:
            raise Refused(Close(CloseCode.NORMAL, NO_DATA)) from None
        await recognition.finish()


async def _feed(message: bytes, recognition: Recognition, line: Line) -> None:
    rest = memoryview(message)
    while rest:
        line.check()  # a long message is not decoded for nobody
        piece, rest = rest[: recognition.piece], rest[recognition.piece :]
        await recognition.feed(bytes(piece))


async def _say(recognition: Recognition, line: Line) -> None:
    while (hypothesis := await recognition.next()) is not None:
        await line.say(hypothesis.encode())
