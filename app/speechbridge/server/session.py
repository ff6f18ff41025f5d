"""One stream: a client's connection on one side, an upstream through a bridge on the other.

A session has two tasks. Its own task reads the upstream's responses, and it alone writes to the connection. The
listener alone reads from the connection and feeds the bridge, whose back-pressure thus reaches the client. The two
do not communicate directly: the listener ends or cancels the bridge, and the session sees the responses end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from speechbridge.engines import Capabilities
from speechbridge.logs import session_id as current_session
from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode, fit_reason
from speechbridge.protocol.messages import EOS, end_of_words, kind_of
from speechbridge.server.delays import KINDS, Delays
from speechbridge.server.endings import log_end
from speechbridge.server.held import Held
from speechbridge.server.intake import Intake, Owner, asked_of
from speechbridge.server.places import LOST, NoPlace, Place, Places
from speechbridge.server.processors import Processors
from speechbridge.server.settling import Before, Settling
from speechbridge.server.totals import ENDED_BY_UPSTREAM, OUTCOMES, Outcome, SessionStatistics, Totals
from speechbridge.server.verdicts import DRAINED, TOO_LONG, verdict_of
from speechbridge.tasks import cancel_and_wait
from syncbridge import Bridge, Closed, Limits, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from speechbridge.engines import Open, Upstream
    from speechbridge.protocol.request import BadRequest, StreamRequest
    from speechbridge.server.client import ClientConnection
    from speechbridge.server.delays import Kind
    from speechbridge.server.settling import Follower
    from speechbridge.server.verdicts import Verdict
    from speechbridge.settings import SessionSettings
    from syncbridge import Direction, Statistics

    Greet = Callable[[str], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)

# An aborted SDK stops within milliseconds. If it does not, its client should not wait longer for the close.
LIMITS = Limits(grace=1.0)

LARGE = 2**13  # characters: after a response that takes milliseconds to parse, other tasks run
DAMAGED_SECONDS = 1.5  # to wait for the results of audio before a part that cannot be decoded


def new_id() -> str:
    """Generate a session's id."""
    return secrets.token_urlsafe(9)


class Sessions:
    """All sessions: what they share, which are running, and the totals of those that have ended.

    `waited` is called with a direction and the seconds that an item waited between the event loop and an SDK's thread;
    `delayed` with a caption's kind and its delay in seconds. Each stream enters a `slot`, which may raise Overloaded.
    """

    def __init__(  # noqa: PLR0913 # all but the first two can be left out
        self,
        engine: Open,
        settings: SessionSettings,
        *,
        takes: Capabilities | None = None,
        processors: Processors | None = None,
        waited: Callable[[Direction, float], object] | None = None,
        delayed: Callable[[Kind, float], object] = lambda _kind, _delay: None,
        slot: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        places: Places | None = None,
    ) -> None:
        self.engine = engine
        self.slot = slot
        self.pool = WorkerPool(settings.max_sessions)
        self.decoders = WorkerPool(settings.max_sessions)
        self.takes = takes or Capabilities()  # the formats that the engine accepts; other audio is decoded
        self.drain_seconds = settings.drain_seconds
        self.session_seconds = settings.session_seconds
        self.processors = processors or Processors()
        self.places = places or Places()  # at the speech service
        self.waited = waited
        self.delayed = delayed
        self.drain_resumable: Callable[[], Awaitable[object]] = partial(asyncio.sleep, 0)
        self.drain_queue: Callable[[], Awaitable[object]] = partial(asyncio.sleep, 0)
        self.drain_readers: Callable[[], Awaitable[object]] = partial(asyncio.sleep, 0)
        self.began_draining = asyncio.Event()  # connections without a running session wait for it
        self._alive: set[Session] = set()
        self._ended: Counter[Outcome] = Counter()
        self._past = Totals()  # of the sessions that have ended
        self.held = Held()  # a drain waits until its count is 0

    @property
    def draining(self) -> bool:
        """Whether new sessions and handshakes are refused."""
        return self.began_draining.is_set()

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

    async def run(  # noqa: PLR0913 # all but the first two can be left out
        self,
        connection: ClientConnection,
        request: StreamRequest,
        greet: Greet | None = None,
        *,
        session_id: str | None = None,
        place: Place | None = None,
        longest: float | None = None,
        follower: Follower | None = None,
        ended: Callable[[Totals], object] = lambda _totals: None,
    ) -> Close:
        """Run one session; return the close frame for the connection.

        `greet` is awaited with the session's id, and `ended` is called with the session's totals. `place` is the place
        that its client has waited for; it is given back. Without one, a place is taken. `longest` is the limit of the
        session's duration in seconds; None: that of the settings. `follower` gets the positions of settled audio.

        Cancellation: the upstream is aborted, and the connection stays open.
        """
        try:
            place = place or await self.places.take()
        except NoPlace as refusal:
            return self.refused(refusal.close)
        try:
            if self.draining:  # a client that connected before the drain may begin another stream on its connection
                return DRAINED[1]
            session = Session(self, connection, request, session_id or new_id(), place)
            session.longest, session.follower = self.session_seconds if longest is None else longest, follower
            with self.held.one():
                return await self._run(session, greet, ended)
        finally:
            await place.release(was_cut=True)  # does nothing if it was given back before

    def refused(self, close: Close) -> Close:
        """Count and log a client that got no place; return the close frame for it."""
        self._ended["refused"] += 1
        logger.info("refused with %s", close, extra={"outcome": "refused", "code": close.code, "reason": close.reason})
        return close

    async def _run(self, session: Session, greet: Greet | None, ended: Callable[[Totals], object]) -> Close:
        self._alive.add(session)
        within = current_session.set(session.id)
        try:
            close = await session.run(greet)
            await session.place.release(was_cut=session.outcome not in ENDED_BY_UPSTREAM)
            return close  # the place is free by now, so the client can connect again at once
        finally:
            current_session.reset(within)
            self._alive.discard(session)
            self._ended[session.outcome] += 1
            totals = session.totals()
            session.forget()
            self._past += totals
            ended(totals)

    async def drain(self, seconds: float | None = None) -> None:
        """End every session that does not move to another process; wait some seconds at most for their last results.

        A session whose client does not read may remain: the server has to drop that connection.

        Cancellation: the sessions go on to their end, and nobody waits for them.
        """
        self.began_draining.set()
        seconds = self.drain_seconds if seconds is None else min(seconds, self.drain_seconds)
        await self.drain_resumable()
        for session in self._alive:
            session.end(DRAINED, seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + LIMITS.grace + 0.5):
                await self.drain_queue()
                await self.held.none()
        await self.drain_readers()


class Session:
    """One session, from the client's first byte to the verdict that closes its connection.

    The verdict is an outcome and a close frame. The first of these that applies decides:

        `end` was called, or the client broke the protocol    the verdict that was given then
        the responses ended                                   completed, or left if the client had left; 1000
        the bridge was cancelled, or time was up              left; 1011
        the upstream ended or refused the stream              upstream; its close code, see `Close.for_client`
        no worker was free                                    refused; 4029
        the SDK raised something else                         failed; 1011
    """

    def __init__(
        self, sessions: Sessions, connection: ClientConnection, request: StreamRequest, session_id: str, place: Place
    ) -> None:
        self.id = session_id
        self.place = place
        self.longest = 0.0  # seconds; 0: no limit
        self.follower: Follower | None = None
        self._sessions = sessions
        self._connection = connection
        self._source = request.content_type  # what the client sends
        self._request = asked_of(sessions.takes, request)  # what the SDK gets
        self._upstream: Upstream | None = None
        self._bridge: Bridge[bytes, str] | None = None
        self._intake: Intake | None = None
        self._verdict: Verdict | None = None  # set if the service ends the session, and not the upstream
        self._time = asyncio.timeout(None)  # for the whole session; `end` sets the deadline
        self._ended = self._left = False  # the client has ended its input; the client has disconnected
        self._received = self._taken = self._fed = 0  # bytes: from the client; decoded, for the SDK; given to the SDK
        self._responses = Counter(partial=0, final=0, other=0)
        self._delays = Delays.of(self._request, sessions.delayed)
        self.outcome: Outcome = "cancelled"  # unless `run` sets another

    async def run(self, greet: Greet | None) -> Close:
        try:
            close = await self._in_time(greet)
            verdict: Verdict = "left" if self._left else "completed", close
        except Exception as error:  # noqa: BLE001 # an SDK may raise anything; `verdict_of` decides what it means
            verdict = verdict_of(error, self._sessions.pool.total)
        self.outcome, close = self._verdict or verdict
        content_type = self._intake.content_type if self._intake is not None else ""
        log_end(self.outcome, close, self.totals(), self.bridge_statistics(), content_type, self._delays)
        return close

    def totals(self) -> Totals:
        """Return what this session has done so far."""
        counts = self._upstream.statistics() if self._upstream and self._upstream.statistics else None
        fed, replayed, evicted = (counts.given, counts.replayed, counts.evicted) if counts else (self._fed, 0, 0)
        before = self.follower.before if self.follower else Before()
        left = self._taken - fed if self._bridge is None or self._bridge.outcome is not None else 0
        moved = left if self.place.is_handed_over else 0  # to another process, which gives it
        rate = self._request.content_type.byte_rate
        second = 1 / rate if rate else 0.0
        return Totals(
            received_bytes=max(0, self._received - before.known),
            received=max(0, self._taken - before.again) * second,
            given=(max(0, fed - before.again) + moved) * second,
            replayed=(replayed + min(fed, before.again)) * second,
            lost=(evicted + left - moved) * second,
            reconnects=max(0, counts.connects - 1) if counts else 0,
            breaks=counts.breaks if counts else 0,
            partials=self._responses["partial"],
            finals=self._responses["final"],
            others=self._responses["other"],
        )

    def forget(self) -> None:
        """Break the reference cycles with the SDK, so that both are freed without the garbage collector."""
        self._bridge = self._upstream = self._intake = None

    def bridge_statistics(self) -> Statistics | None:
        return self._bridge.statistics() if self._bridge is not None else None

    def end(self, verdict: Verdict | None = None, seconds: float | None = None) -> None:
        """End the input. After some seconds the session is cut, even if the upstream has not given all results."""
        self._verdict = self._verdict or verdict
        seconds = self._sessions.drain_seconds if seconds is None else seconds
        if self._intake is not None and self._time.when() is None:
            self._intake.end()
            self._time.reschedule(asyncio.get_running_loop().time() + seconds)

    def _give_up(self, why: str) -> None:
        """Cut the stream, as its SDK does not stop. `why` is "" if it has answered all. Called in another thread."""
        stuck: Verdict = "upstream", Close(CloseCode.INTERNAL, f"the speech SDK is stuck: {why}").for_client()
        self._verdict = self._verdict or (stuck if why else ("completed", Close(CloseCode.NORMAL, END_OF_INPUT)))
        if self._bridge is not None:
            self._bridge.cancel()

    async def _in_time(self, greet: Greet | None) -> Close:
        """Run the stream. Raises Closed when time is up, be it in the upstream, in a processor or in a send."""
        try:
            async with self._time:
                return await self._stream(greet)
        except TimeoutError:
            if not self._time.expired():  # the SDK raised it
                raise
            raise Closed("its time is up") from None

    async def _stream(self, greet: Greet | None) -> Close:
        sessions = self._sessions
        upstream = sessions.engine(self._request)
        settling = Settling(upstream, self.follower)

        def start(audio: Iterator[bytes]) -> Iterable[str]:  # an upstream with statistics counts its input itself
            return settling.start(audio if upstream.statistics else map(self._fed_with, audio))

        self.place.on_lost = lambda: self._cut("upstream", LOST)
        async with (
            sessions.slot(),
            Bridge(
                self.place.used(start),
                abort=upstream.abort,
                join=upstream.join,
                limits=LIMITS,
                pool=sessions.pool,
                name=self.id,
                waited=sessions.waited,
            ) as bridge,
            self._taking(bridge) as intake,
        ):
            self._bridge, self._upstream, self._intake = bridge, upstream, intake
            if upstream.on_stuck is not None:
                upstream.on_stuck(self._give_up)
            logger.info("opened, %s", intake.content_type, extra={"content_type": intake.content_type})
            process = sessions.processors.begin()
            if greet is not None:
                await greet(self.id)
            listener = asyncio.create_task(self._listen(intake), name=f"{self.id}-listener")
            loop = asyncio.get_running_loop()
            limit = loop.call_later(self.longest, self.end, TOO_LONG) if self.longest else None
            try:
                async for response in bridge:
                    self._count(response)
                    for message in await process(response):
                        await self._connection.send(message)
                    settling.sent()  # a resumable stream's `send` never waits, so a journal stores both or neither
                    if len(response) > LARGE:
                        await asyncio.sleep(0)
            finally:
                if limit is not None:
                    limit.cancel()
                await cancel_and_wait(listener)
        return Close(CloseCode.NORMAL, END_OF_INPUT)

    def _taking(self, bridge: Bridge[bytes, str]) -> Intake:
        sessions, before = self._sessions, self.follower.before if self.follower else Before()
        owner = Owner(sessions.decoders, self._on_samples, self._refuse, self._fail, lambda: sessions.alive, before)
        return Intake(bridge, self._source, self._request.content_type, owner, name=self.id)

    async def _listen(self, intake: Intake) -> None:
        try:
            await self._read(intake)
        except Exception as error:  # noqa: BLE001 # nothing is expected, but without a listener the session would wait
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        logger.error("the audio could not be passed on", exc_info=error)
        self._cut("failed", Close(CloseCode.INTERNAL, "the service failed"))

    def _refuse(self, error: BadRequest) -> None:
        """End a stream that cannot be decoded. Audio before the undecodable part is still answered."""
        close = Close(CloseCode.BAD_REQUEST, fit_reason(str(error)))
        if self._taken:
            self.end(("invalid", close), DAMAGED_SECONDS)
        else:
            self._cut("invalid", close)

    def _cut(self, outcome: Outcome, close: Close) -> None:
        self._verdict = self._verdict or (outcome, close)
        if self._bridge is not None:
            self._bridge.cancel()

    async def _read(self, intake: Intake) -> None:
        while (message := await self._connection.receive()) is not None:
            if isinstance(message, bytes):
                self._received += 0 if self._ended else len(message)
                await intake.send(message)
            elif message == EOS:
                self._ended = True
                intake.end()
                if self._upstream is not None:
                    self._upstream.input_ended()
            else:
                self._cut("invalid", Close(CloseCode.INVALID, "send audio as binary messages, then the text EOS"))
                return
            del message  # otherwise it stays in memory while this waits for the next one
        self._left = True
        self.end()

    def _on_samples(self, size: int) -> None:
        self._taken += size
        if self._delays is not None:
            self._delays.received(self._taken)

    def _count(self, response: str) -> None:
        kind = kind_of(response)
        self._responses[kind if kind in self._responses else "other"] += 1
        if self._delays is not None and kind in KINDS and (end_ts := end_of_words(response)) is not None:
            self._delays.answered(kind, end_ts)

    def _fed_with(self, chunk: bytes) -> bytes:
        self._fed += len(chunk)
        return chunk
