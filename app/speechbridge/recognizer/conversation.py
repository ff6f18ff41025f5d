"""A conversation as Rev.ai's streaming service leads it, with any recognizer behind.

It accepts first and refuses by close frame, says `connected`, hears audio until `EOS`, says what was heard, and
closes. Audio is taken from the client only as fast as it is recognised, so nothing piles up here; hypotheses are
sent only as fast as the client reads them, so nothing piles up there either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from speechbridge.protocol.close import END_OF_INPUT, NO_DATA, Close, CloseCode, fit_reason
from speechbridge.protocol.messages import EOS, Connected
from speechbridge.protocol.request import BadRequest, StreamRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechbridge.protocol.messages import Final, Partial
    from speechbridge.recognizer.server import Line

PATIENCE = 60.0  # seconds without any frame; how long Rev.ai waits is not documented


class Refused(Exception):
    """A recognizer cannot begin, or cannot go on; `close` tells the client why and whether to try again."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close


class Recognition(Protocol):
    """One stream at a recognizer."""

    @property
    def piece(self) -> int:
        """How many bytes it takes at once: few enough that its neighbours do not wait long."""

    async def feed(self, audio: bytes) -> Sequence[Partial | Final]:
        """Hear some bytes, `piece` at most; return what is new. Raises BadRequest or Refused."""

    async def finish(self) -> Sequence[Partial | Final]:
        """Hear no more; return the rest. Raises BadRequest or Refused."""

    def close(self) -> None:
        """Let go of it, wherever it stands. Idempotent."""


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
        try:
            await line.say(Connected(line.id).encode())
            while (message := await line.receive(self._patience)) != EOS:
                if isinstance(message, str):
                    return Close(CloseCode.INVALID, f"send audio as binary messages, and {EOS} as the only text")
                await self._recognize(message, recognition, line)
            for hypothesis in await recognition.finish():
                await line.say(hypothesis.encode())
        except TimeoutError:
            return Close(CloseCode.NORMAL, NO_DATA)
        finally:
            recognition.close()
        return Close(CloseCode.NORMAL, END_OF_INPUT)

    async def _recognize(self, message: bytes, recognition: Recognition, line: Line) -> None:
        rest = memoryview(message)
        while rest:
            line.check()  # a long message is not decoded for nobody
            piece, rest = rest[: recognition.piece], rest[recognition.piece :]
            for hypothesis in await recognition.feed(bytes(piece)):
                await line.say(hypothesis.encode())
