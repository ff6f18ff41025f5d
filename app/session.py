"""One conversation: a client's line on one side, an upstream through a bridge on the other.

Two tasks. The session's own reads the upstream's responses and alone writes to the line. The listener alone reads
from the line, and feeds the bridge: its back-pressure is the client's. They tell each other nothing directly: the
listener ends or cancels the bridge, and the session sees its responses end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from app.engines import UpstreamClosed
from app.wire import END_OF_INPUT, EOS, Close, CloseCode
from bridge import Bridge, Broken, Closed, Limits, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from app.engines import Engine
    from app.wire import StreamRequest
    from bridge import WorkerPool

logger = logging.getLogger(__name__)

# Bytes, 2 s of 16 kHz mono. The bridge counts chunks; this bounds what one may weigh, so that a client's 8 MiB
# message does not make 32 of them.
CHUNK = 2**16

# An aborted SDK stops within milliseconds; one that does not is not worth making its client wait for the close.
LIMITS = Limits(grace=1.0)

GOING_AWAY = Close(CloseCode.SHUTTING_DOWN, "the service is shutting down: connect again shortly")


def new_id() -> str:
    """Make up a session's id."""
    return secrets.token_urlsafe(9)


class Line(Protocol):
    """The client's end of a conversation."""

    async def receive(self) -> bytes | str | None:
        """Return the next message, or None once the client has left."""

    async def send(self, text: str) -> None:
        """Send a message. To a client that has left it does nothing."""


class Sessions:
    """What sessions share, and which are alive."""

    def __init__(self, engine: Engine, pool: WorkerPool, *, drain_seconds: float) -> None:
        self.engine = engine
        self.pool = pool
        self.drain_seconds = drain_seconds
        self.draining = False  # no new ones: whoever lets clients in looks at it
        self._alive: set[Session] = set()
        self._none_alive = asyncio.Event()
        self._none_alive.set()

    @property
    def alive(self) -> int:
        return len(self._alive)

    async def run(
        self,
        line: Line,
        request: StreamRequest,
        greet: Callable[[str], Coroutine[Any, Any, None]] | None = None,
        *,
        session_id: str | None = None,
    ) -> Close:
        """Hold one conversation; return how the line is to be closed. `greet` is awaited with the session's id.

        Cancellation: the upstream is aborted, the line left as it is.
        """
        session = Session(self, line, request, session_id or new_id())
        self._alive.add(session)
        self._none_alive.clear()
        try:
            return await session.run(greet)
        finally:
            self._alive.discard(session)
            if not self._alive:
                self._none_alive.set()

    async def drain(self, seconds: float | None = None) -> None:
        """End every session's input, and wait until each has said its last words or its time is up.

        A session whose client does not read may stay behind: it is for the server to drop that connection.
        """
        self.draining = True
        seconds = self.drain_seconds if seconds is None else min(seconds, self.drain_seconds)
        for session in self._alive:
            session.end(GOING_AWAY, seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + LIMITS.grace + 0.5):
                await self._none_alive.wait()


class Session:
    """One conversation, from the client's first byte to the verdict that closes its line."""

    def __init__(self, sessions: Sessions, line: Line, request: StreamRequest, session_id: str) -> None:
        self.id = session_id
        self._sessions = sessions
        self._line = line
        self._request = request
        self._bridge: Bridge[bytes, str] | None = None
        self._verdict: Close | None = None  # ours, where it is not the upstream's ending that decides
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self, greet: Callable[[str], Coroutine[Any, Any, None]] | None) -> Close:
        try:
            close = await self._converse(greet)
        except Closed:  # we cancelled the bridge, for a reason that stands in the verdict
            close = Close(CloseCode.INTERNAL, "the stream was cut")
        except UpstreamClosed as ending:
            close = ending.close.passed_on()
        except Overloaded:
            total = self._sessions.pool.total
            close = Close(CloseCode.TOO_MANY, f"all {total} sessions are taken: try again when one has ended")
        except Exception as error:
            # Whatever the SDK raised, of which nothing is known. Its text may hold secrets, so only its type is told.
            logger.exception("session %s: the speech SDK failed", self.id)
            close = Close(CloseCode.INTERNAL, f"the speech SDK failed: {type(error).__name__}")
        close = self._verdict or close
        if self._bridge is not None:
            counts = self._bridge.statistics()
            text = "session %s: closed with %s after %d chunks in, %d of them upstream, %d responses, %d of them out"
            logger.info(text, self.id, close, counts.sent, counts.fed, counts.yielded, counts.received)
        else:
            logger.info("session %s: refused with %s", self.id, close)
        return close

    def end(self, verdict: Close | None = None, seconds: float | None = None) -> None:
        """End the input; what the upstream has not said so many seconds later is cut off."""
        self._verdict = self._verdict or verdict
        seconds = self._sessions.drain_seconds if seconds is None else seconds
        if self._bridge is not None and self._deadline is None:
            self._bridge.end()
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seconds, self._bridge.cancel)

    async def _converse(self, greet: Callable[[str], Coroutine[Any, Any, None]] | None) -> Close:
        upstream = self._sessions.engine(self._request)
        async with Bridge(
            upstream.start,
            abort=upstream.abort,
            join=upstream.join,
            limits=LIMITS,
            pool=self._sessions.pool,
            name=self.id,
        ) as bridge:
            self._bridge = bridge
            logger.info("session %s: opened, %s", self.id, self._request.content_type)
            if greet is not None:
                await greet(self.id)
            listener = asyncio.create_task(self._listen(bridge), name=f"{self.id}-listener")
            try:
                async for response in bridge:
                    await self._line.send(response)
            finally:
                if self._deadline is not None:
                    self._deadline.cancel()
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
        return Close(CloseCode.NORMAL, END_OF_INPUT)

    async def _listen(self, bridge: Bridge[bytes, str]) -> None:
        try:
            await self._take_in(bridge)
        except Exception:  # nothing is expected to; but a session whose listener died would wait for ever
            logger.exception("session %s: the listener failed", self.id)
            self._verdict = Close(CloseCode.INTERNAL, "the service failed")
            bridge.cancel()

    async def _take_in(self, bridge: Bridge[bytes, str]) -> None:
        while (message := await self._line.receive()) is not None:
            if isinstance(message, bytes):
                await self._hear(message, bridge)
            elif message == EOS:
                bridge.end()
            else:
                self._verdict = Close(CloseCode.INVALID, "send audio as binary messages, then the text EOS")
                bridge.cancel()
                return
        self.end()

    async def _hear(self, audio: bytes, bridge: Bridge[bytes, str]) -> None:
        """Pass audio on. What comes after the end, ours or the upstream's, is read and thrown away, as Rev.ai does."""
        try:
            for start in range(0, len(audio), CHUNK):  # of an empty message nothing is left: there is nothing to hear
                await bridge.send(audio[start : start + CHUNK])
        except (Closed, Broken):
            return
