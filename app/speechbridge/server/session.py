"""One conversation: a client's line on one side, an upstream through a bridge on the other.

Two tasks. The session's own reads the upstream's responses and alone writes to the line. The listener alone reads
from the line, and feeds the bridge: its back-pressure is the client's. They tell each other nothing directly: the
listener ends or cancels the bridge, and the session sees its responses end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from speechbridge.engines import UpstreamClosed
from speechbridge.logs import session_id as current_session
from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode
from speechbridge.protocol.messages import EOS, kind_of
from speechbridge.server.totals import OUTCOMES, Outcome, SessionStatistics, Totals
from syncbridge import Bridge, Broken, Closed, Limits, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from typing import Any

    from speechbridge.engines import Engine, Upstream
    from speechbridge.protocol.request import StreamRequest
    from speechbridge.server.processors import Processors
    from syncbridge import Direction, Statistics, WorkerPool

logger = logging.getLogger(__name__)

# Bytes, 2 s of 16 kHz mono. The bridge counts chunks; this bounds what one may weigh, so that a client's 8 MiB
# message does not make 32 of them.
CHUNK = 2**16

# From so many sessions on, audio in short messages goes to the SDKs' threads in pieces of this length: to wake a thread
# costs as much as five more messages. Few recognizers have more to say in that time.
COALESCE_FROM = 100  # with one fewer, messages of 20 ms take not quite half a core
COALESCE_SECONDS = 0.1  # seconds

# An aborted SDK stops within milliseconds; one that does not is not worth making its client wait for the close.
LIMITS = Limits(grace=1.0)

Verdict = tuple[Outcome, Close]

GOING_AWAY: Verdict = (
    "drained",
    Close(CloseCode.SHUTTING_DOWN, "the service is shutting down: connect again shortly"),
)
TOO_LONG: Verdict = (
    "limited",
    Close(CloseCode.TOO_LONG, "the stream is as long as one may be: go on with a new one"),
)


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

    def __init__(  # noqa: PLR0913 # all but two have defaults, and names
        self,
        engine: Engine,
        pool: WorkerPool,
        *,
        drain_seconds: float,
        session_seconds: float = 0.0,
        processors: Processors | None = None,
        waited: Callable[[Direction, float], object] | None = None,
    ) -> None:
        self.engine = engine
        self.pool = pool
        self.drain_seconds = drain_seconds
        self.session_seconds = session_seconds  # how long one may last; 0: as long as it likes
        self.processors = processors
        self.waited = waited
        self.draining = False  # no new ones: whoever lets clients in looks at it
        self._alive: set[Session] = set()
        self._ended: Counter[Outcome] = Counter()
        self._past = Totals()  # of those that are over
        self._none_alive = asyncio.Event()
        self._none_alive.set()

    @property
    def alive(self) -> int:
        return len(self._alive)

    def statistics(self) -> SessionStatistics:
        """Return a snapshot."""
        return SessionStatistics(
            alive=len(self._alive),
            ended={outcome: self._ended[outcome] for outcome in OUTCOMES},
            totals=sum((session.totals() for session in self._alive), self._past),
            bridges=tuple(found for session in self._alive if (found := session.bridge_statistics())),
        )

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
        if self.draining:  # its client came in before that: one may begin several, one after the other
            return GOING_AWAY[1]
        session = Session(self, line, request, session_id or new_id())
        self._alive.add(session)
        self._none_alive.clear()
        within = current_session.set(session.id)
        try:
            return await session.run(greet)
        finally:
            current_session.reset(within)
            self._alive.discard(session)
            self._ended[session.outcome] += 1
            self._past += session.totals()
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
        self._upstream: Upstream | None = None
        self._bridge: Bridge[bytes, str] | None = None
        self._verdict: Verdict | None = None  # ours, where it is not the upstream's ending that decides
        self._time = asyncio.timeout(None)  # for all of it; without end, until `end` sets one
        self._ended = False  # the client said so
        self._left = False
        self._received = self._fed = 0  # bytes
        self._piece = int(
            COALESCE_SECONDS * (request.content_type.byte_rate or 0)
        )  # bytes; 0 where only decoding would tell
        self._responses = Counter(partial=0, final=0, other=0)
        self.outcome: Outcome = "cancelled"  # until another stands

    async def run(self, greet: Callable[[str], Coroutine[Any, Any, None]] | None) -> Close:
        verdict: Verdict
        try:
            close = await self._in_time(greet)
            verdict = "left" if self._left else "completed", close
        except Closed:  # we cancelled the bridge: for a reason that stands in the verdict, or nobody was there any more
            verdict = "left", Close(CloseCode.INTERNAL, "the stream was cut")
        except UpstreamClosed as ending:
            verdict = "upstream", ending.close.for_client()
        except Overloaded:
            total = self._sessions.pool.total
            text = f"all {total} sessions are taken: try again when one has ended"
            verdict = "refused", Close(CloseCode.TOO_MANY, text)
        except Exception as error:
            # Whatever the SDK raised, of which nothing is known. Its text may hold secrets, so only its type is told.
            logger.exception("the speech SDK failed")
            verdict = "failed", Close(CloseCode.INTERNAL, f"the speech SDK failed: {type(error).__name__}")
        self.outcome, close = self._verdict or verdict
        self._log_end(close)
        return close

    def totals(self) -> Totals:
        """Say what it has done so far."""
        upstream = self._upstream.statistics() if self._upstream and self._upstream.statistics else None
        given, replayed, evicted = (
            (upstream.given, upstream.replayed, upstream.evicted) if upstream else (self._fed, 0, 0)
        )
        is_over = self._bridge is None or self._bridge.outcome is not None
        rate = self._request.content_type.byte_rate
        second = 1 / rate if rate else 0.0
        return Totals(
            received_bytes=self._received,
            received=self._received * second,
            given=given * second,
            replayed=replayed * second,
            lost=(evicted + (self._received - given if is_over else 0)) * second,
            reconnects=max(0, upstream.connects - 1) if upstream else 0,
            breaks=upstream.breaks if upstream else 0,
            partials=self._responses["partial"],
            finals=self._responses["final"],
            others=self._responses["other"],
        )

    def bridge_statistics(self) -> Statistics | None:
        return self._bridge.statistics() if self._bridge is not None else None

    def _log_end(self, close: Close) -> None:
        totals = self.totals()
        counts = self.bridge_statistics()
        told: dict[str, object] = {"outcome": self.outcome, "code": int(close.code), "reason": close.reason}
        if counts is None:
            logger.info("refused with %s", close, extra=told)
            return
        told |= {
            "chunks": counts.sent,
            "chunks_upstream": counts.fed,
            "responses": counts.yielded,
            "responses_out": counts.received,
            "seconds": round(totals.received, 3),
            "seconds_replayed": round(totals.replayed, 3),
            "seconds_lost": round(totals.lost, 3),
        }
        text = "closed with %s after %.1f s of audio: %d chunks in, %d of them upstream, %d responses, %d of them out"
        numbers = (totals.received, counts.sent, counts.fed, counts.yielded, counts.received)
        logger.info(text, close, *numbers, extra=told)

    def end(self, verdict: Verdict | None = None, seconds: float | None = None) -> None:
        """End the input; what the upstream has not said so many seconds later is cut off."""
        self._verdict = self._verdict or verdict
        seconds = self._sessions.drain_seconds if seconds is None else seconds
        if self._bridge is not None and self._time.when() is None:
            self._bridge.end()
            self._time.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _in_time(self, greet: Callable[[str], Coroutine[Any, Any, None]] | None) -> Close:
        """Converse. Raises Closed when time is up, wherever a response is then: upstream, in a processor, going out."""
        try:
            async with self._time:
                return await self._converse(greet)
        except TimeoutError:
            if not self._time.expired():  # the SDK's own
                raise
            raise Closed("its time is up") from None

    async def _converse(self, greet: Callable[[str], Coroutine[Any, Any, None]] | None) -> Close:
        upstream = self._sessions.engine(self._request)
        sessions = self._sessions

        def start(audio: Iterator[bytes]) -> Iterable[str]:
            # One with statistics counts what it is given.
            return upstream.start(audio if upstream.statistics else map(self._fed_with, audio))

        async with Bridge(
            start,
            abort=upstream.abort,
            join=upstream.join,
            limits=LIMITS,
            pool=sessions.pool,
            name=self.id,
            waited=sessions.waited,
        ) as bridge:
            self._bridge, self._upstream = bridge, upstream
            logger.info(
                "opened, %s", self._request.content_type, extra={"content_type": str(self._request.content_type)}
            )
            process = sessions.processors.begin() if sessions.processors else None
            if greet is not None:
                await greet(self.id)
            listener = asyncio.create_task(self._listen(bridge), name=f"{self.id}-listener")
            loop, longest = asyncio.get_running_loop(), sessions.session_seconds
            limit = loop.call_later(longest, self.end, TOO_LONG) if longest else None
            try:
                async for response in bridge:
                    self._count(response)
                    for message in await process(response) if process else (response,):
                        await self._line.send(message)
            finally:
                if limit is not None:
                    limit.cancel()
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
        return Close(CloseCode.NORMAL, END_OF_INPUT)

    async def _listen(self, bridge: Bridge[bytes, str]) -> None:
        try:
            await self._take_in(bridge)
        except Exception:  # nothing is expected to; but a session whose listener died would wait for ever
            logger.exception("the listener failed")
            self._verdict = "failed", Close(CloseCode.INTERNAL, "the service failed")
            bridge.cancel()

    async def _take_in(self, bridge: Bridge[bytes, str]) -> None:
        while (message := await self._line.receive()) is not None:
            if isinstance(message, bytes):
                await self._hear(message, bridge)
            elif message == EOS:
                self._ended = True
                bridge.end()
            else:
                text = "send audio as binary messages, then the text EOS"
                self._verdict = "invalid", Close(CloseCode.INVALID, text)
                bridge.cancel()
                return
            del message  # it would be held on to while the next is waited for
        self._left = True
        self.end()

    async def _hear(self, audio: bytes, bridge: Bridge[bytes, str]) -> None:
        """Pass audio on. What comes after the end, ours or the upstream's, is read and thrown away, as Rev.ai does."""
        linger = 0.0
        if not self._ended:
            linger = self._linger(len(audio))
            self._received += len(audio)
        try:
            for start in range(0, len(audio), CHUNK):  # of an empty message nothing is left: there is nothing to hear
                await bridge.send(audio[start : start + CHUNK], linger=linger)
        except (Closed, Broken):
            return

    def _linger(self, size: int) -> float:
        """Return for how many seconds the next so many bytes may wait for more: in a crowd, to the end of a piece."""
        if self._piece == 0 or self._sessions.alive < COALESCE_FROM:
            return 0.0
        return COALESCE_SECONDS if self._received // self._piece == (self._received + size) // self._piece else 0.0

    def _count(self, response: str) -> None:
        kind = kind_of(response)
        self._responses[kind if kind in self._responses else "other"] += 1

    def _fed_with(self, chunk: bytes) -> bytes:
        self._fed += len(chunk)
        return chunk
