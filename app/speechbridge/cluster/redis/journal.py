"""The journal of resumable streams in Redis: whichever process is killed, another goes on with its streams.

`journal.lua` keeps them; here is what a process does with its own. All that changed is written every WRITE_SECONDS, in
one call for all streams. What a call could not bring is part of the next one: a record remembers what is stored, and
what is not stored is kept by the stream anyway. If Redis has lost what was there, and with it the beat of this process,
all of it is written once more.

While Redis is away, streams go on. No audio is confirmed, so their clients keep it; finals wait for one call, at most
`PATIENCE`, and are shown then, though they are not stored. If the process dies before Redis is back, those come twice.

A process that is not heard of for BEAT_LASTS counts as dead, though it may be cut off from Redis only. So it lets go of
a stream before that, HANG_UP_SECONDS after Redis answered last, if the client is not connected to it: that one may have
its stream elsewhere soon. A stream whose client is connected goes on. A process that stands still cannot let go of
anything: the kernel ends it, KILL_BEFORE it counts as dead (`cluster.switch`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbridge.cluster import Away, Elsewhere
from speechbridge.cluster.record import Record
from speechbridge.cluster.switch import Switch
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.commands.core import AsyncScript

    from speechbridge.cluster.redis.connection import Redis

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("journal.lua")
KEYS = ("state", "audio", "finals")
WRITE_SECONDS = 0.05  # between two calls
BEAT_SECONDS = 0.5  # between two calls of a process that has nothing to write
BEAT_LASTS = 18.0  # seconds without a call, after which a process has no streams any more: as long as leases last
KILL_BEFORE = 0.5  # seconds
HANG_UP_SECONDS = 11.0  # as for a lease that cannot be renewed
TOUCH_SECONDS = 10.0  # between two writes of a stream in which nothing changes: it expires otherwise
KEEP_LONGER = 30.0  # seconds that a stream stays beyond the time in which its client may come back
TAKE_SECONDS = 25.0  # for another process to let a stream go, or to count as dead
ASK_SECONDS = 0.1  # between two tries of that
BATCH = 2**20  # bytes of audio in one call, or one stream's


@dataclass(eq=False)
class _Kept:
    """A record of this process, and how far it is stored. `lost` is called when another process has the stream."""

    name: str
    record: Record
    lost: Callable[[], object]
    number: int = 0  # of the last write
    received: int = 0
    total: int = 0
    is_whole: bool = True  # the next write brings everything
    written_at: float = -math.inf


class RedisJournal:
    """Implements `Journal`. A stream of a dead process stays for `seconds`, and a little longer."""

    survives = True

    def __init__(self, redis: Redis, seconds: float) -> None:
        self.unstored = 0  # finals that clients saw before they were stored
        self._redis = redis
        self._keep_ms = round((seconds + KEEP_LONGER) * 1000)
        self._process = secrets.token_urlsafe(12)
        self._beats, self._channels = redis.key("journal:beat:"), redis.key("journal:process:")
        self._script: AsyncScript = redis.script(SCRIPT)
        self._kept: dict[str, _Kept] = {}
        self._changed: dict[str, _Kept] = {}  # in the order in which they changed
        self._change = asyncio.Event()
        self._writing = asyncio.Lock()
        self._aside: set[asyncio.Task[None]] = set()
        self._reached_at = math.inf  # when the last call was sent that was answered
        self._switch: Switch | None = None
        self._away_from: int | None = None  # `unstored` when Redis went away; None as long as it answers
        redis.listen(self._channels + self._process, self._asked_for)

    def keep(self, record: Record, lost: Callable[[], object]) -> None:
        name = _name(record.key)
        kept = self._kept[name] = _Kept(name, record, lost)
        record.is_kept = True
        record.changed = lambda: self._note(kept)
        record.changed()

    def forget(self, record: Record) -> None:
        name = _name(record.key)
        if (kept := self._kept.get(name)) is not None and kept.record is record:
            del self._kept[name]
            self._changed.pop(name, None)
            record.changed = lambda: None

    def drop(self, record: Record) -> None:
        self.forget(record)
        record.is_kept = False
        record.audio.release(record.audio.end)
        record.stored()
        self._call_aside("drop", _name(record.key))

    async def let_go(self, record: Record) -> None:
        kept = self._kept.get(_name(record.key))
        if kept is None or kept.record is not record:
            return
        async with self._writing:
            try:
                await self._write([kept])
                await self._call("disown", kept.name, self._process)
            finally:
                self.forget(record)

    async def take(self, key: str, owner: str) -> Record | None:
        name, clock = _name(key), asyncio.get_running_loop().time
        gives_up_at = clock() + TAKE_SECONDS
        while (found := await self._take(name, owner))[0] == "wait":
            if clock() >= gives_up_at:
                raise Elsewhere
            await asyncio.sleep(ASK_SECONDS)
        if found[0] == "none":
            return None
        about, base, begin, settled, received, confirmed, ended, verdict = found[1]
        record = Record(
            key,
            about,
            owner=owner,
            room=0,  # its owner knows
            received=int(received),
            settled=int(settled),
            confirmed=int(confirmed),
            has_ended=ended == "1",
            verdict=verdict,
            is_complete=found[0] == "let go",
        )
        record.finals.extend(found[2])
        record.restore(int(base), await self._redis.read(self._keys(name)[1]))
        record.audio.release(int(begin))
        return record

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write what changes, for as long as the context lasts."""
        self._switch = Switch()
        writing = asyncio.create_task(self._run(), name="journal-writer")
        try:
            yield
        finally:
            await cancel_and_wait(writing, *self._aside)
            self._switch.close()
            self._switch = None

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._change.wait()
            now = clock()
            if not self._kept:
                self._mind(now)
                self._change.clear()
                continue
            for kept in self._kept.values():
                if now - kept.written_at >= TOUCH_SECONDS:
                    self._changed[kept.name] = kept
            async with self._writing:
                try:
                    await self._write(self._batch())
                except Away as away:
                    self._is_away(away)
            await asyncio.sleep(WRITE_SECONDS)

    def _mind(self, since: float) -> None:
        """Have the kernel end this process if it stands still from a time on, and has streams."""
        if self._switch is None:
            return
        if self._kept:
            now = asyncio.get_running_loop().time()
            self._switch.set(max(0.0, since + BEAT_LASTS - KILL_BEFORE - now))
        else:
            self._switch.clear()

    def _batch(self) -> list[_Kept]:
        """Take the streams that are written next: those that have waited longest."""
        batch: list[_Kept] = []
        size = 0
        for kept in self._changed.values():
            size += kept.record.audio.end - max(kept.record.begin, kept.received)
            if batch and size > BATCH:
                break
            batch.append(kept)
        for kept in batch:
            del self._changed[kept.name]
        if not self._changed:
            self._change.clear()
        return batch

    async def _write(self, batch: list[_Kept]) -> None:
        """Write some streams, and that this process lives. Raises Away: then they have to be written still."""
        arguments: list[str | float | bytes]
        keys, arguments, marks = [self._beats + self._process], ["write", self._process, round(BEAT_LASTS * 1000)], []
        for kept in batch:
            keys += self._keys(kept.name)
            values, mark = self._values(kept)
            arguments += values
            marks.append(mark)
        sent = asyncio.get_running_loop().time()
        try:
            beat, *results = await self._redis.run(self._script, keys, arguments)
        except Away:
            for kept in batch:
                self._note(kept)
            raise
        self._is_reached(sent)
        if beat == "first":
            for kept in [kept for kept in self._kept.values() if kept not in batch]:
                kept.is_whole = True
                self._note(kept)
        for kept, result, (received, total) in zip(batch, results, marks, strict=True):
            if result == "stored":
                kept.received, kept.total, kept.is_whole, kept.written_at = received, total, False, sent
                kept.record.has_stored(received, total)
            elif result == "gone":
                kept.is_whole = True
                self._note(kept)
            elif self._kept.get(kept.name) is kept:
                self.forget(kept.record)
                kept.lost()

    def _values(self, kept: _Kept) -> tuple[list[str | float | bytes], tuple[int, int]]:
        """Return what the script is given of one stream, and what is stored then: bytes of audio, and finals."""
        record = kept.record
        kept.number += 1
        begin = record.begin if kept.is_whole else max(record.begin, kept.received)
        first = record.confirmed if kept.is_whole else max(record.confirmed, kept.total)
        if begin > kept.received and not kept.is_whole:  # some of it is not kept any more: begin anew
            kept.is_whole = True
            return self._values(kept)
        finals = [*record.finals][first - record.confirmed :]
        audio = b"".join(piece for _, piece in record.audio.pieces(begin))
        values: list[str | float | bytes] = [
            kept.number,
            self._keep_ms,
            record.owner,
            record.about if kept.is_whole else "",
            begin,
            audio,
            record.begin,
            record.settled,
            record.confirmed,
            first,
            int(record.has_ended),
            record.verdict,
            len(finals),
        ]
        return [*values, *finals], (record.received, record.total)

    def _note(self, kept: _Kept) -> None:
        if self._kept.get(kept.name) is kept:
            self._changed[kept.name] = kept
            self._change.set()

    def _is_reached(self, sent: float) -> None:
        self._reached_at = sent
        self._mind(sent)
        if self._away_from is not None:
            unstored, self._away_from = self.unstored - self._away_from, None
            logger.info("streams are stored again; clients got %d finals before they were", unstored)

    def _is_away(self, away: Away) -> None:
        self._mind(asyncio.get_running_loop().time())  # this process does not stand still
        if self._away_from is None:  # once: a call that is refused is made again at once
            self._away_from = self.unstored
            logger.warning(
                "%d streams cannot be stored: %s; clients get their finals all the same", len(self._kept), away
            )
        self.unstored += sum(kept.record.show() for kept in self._kept.values())
        if asyncio.get_running_loop().time() - self._reached_at >= HANG_UP_SECONDS:
            for kept in [kept for kept in self._kept.values() if not kept.record.is_attended]:
                self.forget(kept.record)
                kept.lost()

    def _asked_for(self, name: str) -> None:
        """Let another process have a stream."""
        if (kept := self._kept.get(name)) is not None:
            kept.lost()
            return
        self._call_aside("disown", name)

    def _call_aside(self, call: str, name: str) -> None:
        async def calls() -> None:
            async with self._writing:  # what is being written comes before
                with suppress(Away):  # a stream is asked for again, or expires
                    await self._call(call, name, self._process)

        task = asyncio.create_task(calls(), name=f"journal-{call}")
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _take(self, name: str, owner: str) -> Any:
        return await self._call("take", name, self._process, owner, self._beats, self._channels, name)

    async def _call(self, name: str, stream: str, *arguments: str) -> Any:
        return await self._redis.run(self._script, self._keys(stream), [name, *arguments])

    def _keys(self, name: str) -> list[str]:
        return [self._redis.key(f"journal:{name}:{key}") for key in KEYS]


def _name(key: str) -> str:
    """Return what a stream is called in Redis: who sees that cannot resume it."""
    return hashlib.sha256(key.encode()).hexdigest()
