"""The resumable streams of this process: those that it began, and those that it took over from another process.

A stream's session runs in a task of its own, so that it outlives the connection on which it began. A stream moves to
another process when its client has reconnected there, or when this process drains. First the session is cut, which
closes its upstream connection; then the last changes are written to the journal; then the stream is released. Nothing
is lost, because the journal has all audio that the upstream has not settled.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from speechbridge.cluster import Unavailable
from speechbridge.cluster.memory import NoJournal
from speechbridge.cluster.record import Record
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.resume import COME_BACK_CODES
from speechbridge.server.resumable import TAKEN_OVER, About, ResumableConnection
from speechbridge.server.verdicts import DRAINED
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from speechbridge.cluster import Journal
    from speechbridge.settings import SessionSettings

logger = logging.getLogger(__name__)

CUT = Close(CloseCode.INTERNAL, "the stream was cut")
DISCONNECT_SECONDS = 6.0  # to wait for the upstream to disconnect: while it connects, only its own timeout ends it
ROOM = 3 * 2**20  # bytes of unsettled audio, kept for another process: as much as an engine keeps


class ResumableConnections:
    """The streams, by their keys. A stream is kept for a while after its session has ended.

    All keys begin with `prefix`, so that other processes know which process began a stream. `released` and `taken`
    count the streams that went to another process, and that came from one. `took_answered` is called when a stream came
    that the speech service had answered.
    """

    def __init__(
        self,
        settings: SessionSettings,
        journal: Journal | None = None,
        *,
        prefix: str = "",
        took_answered: Callable[[], object] = lambda: None,
    ) -> None:
        self.released = self.taken = 0
        self.journal = journal or NoJournal()
        self._prefix = prefix
        self._took_answered = took_answered
        self.away_seconds = settings.resume_seconds
        self._most_ended = settings.max_sessions
        self._streams: dict[str, ResumableConnection] = {}
        self._sessions: dict[str, asyncio.Task[None]] = {}
        self._moves: dict[str, asyncio.Task[None]] = {}
        self._taking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def new_key(self) -> str:
        """Make a key for a new stream."""
        return self._prefix + secrets.token_urlsafe(18)

    def begin(self, about: About, owner: str = "", key: str = "") -> ResumableConnection:
        """Make the connection of a new session, to be run with `run`. `owner` is that of its API key."""
        key = key or self.new_key()
        record = Record(key, about.encode(), ROOM, about.frame or 1, about.frame is None, owner)
        record.is_stored = not self.journal.survives
        return self._add(about, record)

    def _add(self, about: About, record: Record) -> ResumableConnection:
        stream = ResumableConnection(about, record, away_seconds=self.away_seconds)
        stream.kept = partial(self._keep, stream)
        record.outgrown = partial(self.journal.drop, record)
        self._streams[record.key] = stream
        return stream

    def find(self, key: str, owner: str = "") -> ResumableConnection | None:
        """Return the stream of a resume key; None if it is not here, or belongs to another owner."""
        stream = self._streams.get(key)
        return stream if stream is not None and stream.record.owner == owner else None

    async def take(self, key: str, owner: str, finals: int, run: Callable[[ResumableConnection], object]) -> bool:
        """Take over a stream from another process for its client, which has `finals` finals.

        Returns whether it is here now. `run` is called with a stream that was taken over and has not ended. Of several
        concurrent calls, the first one takes it. Raises Unavailable, and Elsewhere.
        """
        lock = self._taking.setdefault(key, asyncio.Lock())
        async with lock:
            if key in self._streams:
                return True
            if (moving := self._moves.get(key)) is not None:
                await asyncio.shield(moving)
            record = await self.journal.take(key, owner)
            if record is None:
                return False
            about = About.parse(record.about, key)
            record.room, record.audio.unit, record.is_whole = ROOM, about.frame or 1, about.frame is None
            # The client got more finals while Redis was unavailable, so they were not stored.
            if finals > record.total and not record.is_complete:
                record.recount(finals)
            stream = self._add(about, record)
            self._keep(stream)
            if record.verdict:
                stream.end(Close(*json.loads(record.verdict)))
                self._retire(stream)
            else:
                self.taken += 1
                logger.info("took the stream %s over", about.session_id)
                if record.settled:
                    self._took_answered()
                run(stream)
            return True

    def run(self, stream: ResumableConnection, session: Coroutine[Any, Any, Close]) -> None:
        """Run a stream's session in a task of its own, so that it outlives the connection on which it began."""
        key = stream.record.key

        async def live() -> None:
            verdict = CUT
            try:
                verdict = await session
            finally:
                if not stream.is_moving:
                    self._ended(stream, verdict)

        task = self._sessions[key] = asyncio.create_task(live(), name="resumable-session")
        task.add_done_callback(lambda _: self._sessions.pop(key, None))

    def _ended(self, stream: ResumableConnection, verdict: Close) -> None:
        if stream.record.is_kept and verdict.code in COME_BACK_CODES:  # another process can continue it
            self._move(stream, verdict)
            return
        stream.end(verdict)
        stream.record.end(verdict=json.dumps([verdict.code, verdict.reason]))
        self._retire(stream)

    async def drain(self) -> None:
        """Release all streams that can be moved, so that other processes continue them. It takes a few seconds at most.

        Cancellation: some may not be released.
        """
        moved = [self._move(stream, DRAINED[1]) for stream in [*self._streams.values()] if self._is_movable(stream)]
        await asyncio.gather(*moved, return_exceptions=True)

    @staticmethod
    def _is_movable(stream: ResumableConnection) -> bool:
        return stream.record.is_kept and not stream.over.is_set()

    def _keep(self, stream: ResumableConnection) -> None:
        self.journal.keep(stream.record, lambda: self._move(stream, TAKEN_OVER))

    def _move(self, stream: ResumableConnection, close: Close) -> asyncio.Task[None]:
        """Begin to release a stream, unless that has begun; then close its client's connection, if there is one."""
        key = stream.record.key
        found = self._moves.get(key)
        if found is None:
            found = self._moves[key] = asyncio.create_task(self._hand_over(stream, close), name="resumable-move")
            found.add_done_callback(lambda _: self._moves.pop(key, None))
        return found

    async def _hand_over(self, stream: ResumableConnection, close: Close) -> None:
        key = stream.record.key
        if (session := self._sessions.get(key)) is not None:
            self.released += 1
            stream.is_moving = True
            stream.moves()
            await cancel_and_wait(session)
            if stream.has_begun:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DISCONNECT_SECONDS):
                        await stream.has_disconnected.wait()
        try:
            await self.journal.release(stream.record)
        except Unavailable as error:
            logger.warning("the stream %s is released without its last changes: %s", stream.about.session_id, error)
        stream.record.deliver_unstored()
        self._forget(key)
        stream.end(close)

    def _retire(self, stream: ResumableConnection) -> None:
        """Keep an ended stream for a client that disconnected before its last results; evict the oldest of many."""
        ended = [key for key, known in self._streams.items() if known.over.is_set()]
        for key in ended[: max(0, len(ended) - self._most_ended)]:
            self._forget(key)
        asyncio.get_running_loop().call_later(self.away_seconds, self._forget, stream.record.key)

    def _forget(self, key: str) -> None:
        stream = self._streams.pop(key, None)
        if stream is not None:
            stream.forget()
            self.journal.forget(stream.record)
