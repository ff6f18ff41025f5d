"""The journal of resumable streams in Redis: if a process is killed, another one continues its streams.

`journal.lua` stores the streams; this file writes those of one process. Changes are written every WRITE_SECONDS, in one
call for all streams. If a call fails, its changes are part of the next one: each entry remembers what is stored, and a
stream keeps what is not stored anyway. If Redis has lost its data, and so the heartbeat of this process, the whole of
each stream is written again.

While Redis is unavailable, streams go on. No audio is acknowledged, so clients keep theirs. Finals wait for one call,
`PATIENCE` at most, and are then sent though they are not stored. If the process dies before Redis is available again,
these finals are sent twice.

A process without a heartbeat for COUNTS_AS_DEAD_AFTER counts as dead, though it may only be cut off from Redis. So it
gives up a stream before that, DISCONNECT_AFTER after Redis answered last, if the client is not connected: the client
may soon continue the stream at another process. A stream whose client is connected goes on. A process that is stopped
cannot give up anything: the kernel kills it KILL_BEFORE it counts as dead (`cluster.switch`).
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

from speechbridge.cluster import COUNTS_AS_DEAD_AFTER, DISCONNECT_AFTER, KILL_BEFORE, Elsewhere, Unavailable
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
TOUCH_SECONDS = 10.0  # between two writes of a stream that does not change, so that it does not expire
KEEP_LONGER = 30.0  # seconds that a stream stays stored after its client can no longer resume it
TAKE_SECONDS = 25.0  # for another process to release a stream, or to count as dead
ASK_SECONDS = 0.1  # between two requests for that
BATCH = 2**20  # bytes of audio in one call, at most, unless one stream has more


@dataclass(eq=False)
class _Kept:
    """A record of this process, and what of it is stored. `lost` is called when another process has the stream."""

    name: str
    record: Record
    lost: Callable[[], object]
    number: int = 0  # of the last write
    received: int = 0  # the position up to which audio is stored
    total: int = 0  # the number of finals stored
    is_whole: bool = True  # the next write must contain everything
    written_at: float = -math.inf


class RedisJournal:
    """Implements `Journal`. A dead process's stream stays for `seconds` and KEEP_LONGER."""

    survives = True

    def __init__(self, redis: Redis, seconds: float) -> None:
        self.unstored = 0  # finals that were sent to clients before they were stored
        self._redis = redis
        self._keep_ms = round((seconds + KEEP_LONGER) * 1000)
        self._process = secrets.token_urlsafe(12)
        self._beats, self._channels = redis.key("journal:beat:"), redis.key("journal:process:")
        self._script: AsyncScript = redis.script(SCRIPT)
        self._kept: dict[str, _Kept] = {}
        self._changed: dict[str, _Kept] = {}  # entries with unwritten changes, the oldest change first
        self._change = asyncio.Event()
        self._writing = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._failure: Unavailable | None = None  # the latest call that failed, and when that was
        self._failed_at = 0.0
        self._reached_at = math.inf  # when the latest call that was answered was sent
        self._switch: Switch | None = None
        self._unstored_before: int | None = None  # `unstored` when Redis became unavailable; None while it answers
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
        self._call_in_background("drop", _name(record.key))

    async def release(self, record: Record) -> None:
        kept = self._kept.get(_name(record.key))
        if kept is None or kept.record is not record:
            return
        asked = asyncio.get_running_loop().time()
        async with self._writing:
            try:
                if self._failure is not None and self._failed_at >= asked:  # of many, not each waits for PATIENCE
                    raise Unavailable(str(self._failure))
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
            room=0,  # the caller sets it
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
        """Write changes within the context."""
        self._switch = Switch()
        writing = asyncio.create_task(self._run(), name="journal-writer")
        try:
            yield
        finally:
            await cancel_and_wait(writing, *self._background)
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
                self._set_switch(now)
                self._change.clear()
                continue
            for kept in self._kept.values():
                if now - kept.written_at >= TOUCH_SECONDS:
                    self._changed[kept.name] = kept
            async with self._writing:
                try:
                    await self._write(self._batch())
                except Unavailable as error:
                    self._continue_unstored(error)
            await asyncio.sleep(WRITE_SECONDS)

    def _set_switch(self, since: float) -> None:
        """Have the kernel end this process if it stands still from a time on, and has streams."""
        if self._switch is None:
            return
        if self._kept:
            now = asyncio.get_running_loop().time()
            self._switch.set(max(0.0, since + COUNTS_AS_DEAD_AFTER - KILL_BEFORE - now))
        else:
            self._switch.clear()

    def _batch(self) -> list[_Kept]:
        """Take the streams to write next: those whose changes are oldest."""
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
        """Write some streams, and this process's heartbeat. Raises Unavailable, and schedules the streams again."""
        keys, marks = [self._beats + self._process], []
        arguments: list[str | float | bytes] = ["write", self._process, round(COUNTS_AS_DEAD_AFTER * 1000)]
        for kept in batch:
            keys += self._keys(kept.name)
            values, mark = self._values(kept)
            arguments += values
            marks.append(mark)
        sent = asyncio.get_running_loop().time()
        try:
            beat, *results = await self._redis.run(self._script, keys, arguments)
        except Unavailable as error:
            self._failure, self._failed_at = error, asyncio.get_running_loop().time()
            for kept in batch:
                self._note(kept)
            raise
        self._note_answer(sent)
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
        """Return the script's arguments for one stream, and what will be stored: bytes of audio, number of finals."""
        record = kept.record
        kept.number += 1
        begin = record.begin if kept.is_whole else max(record.begin, kept.received)
        first = record.confirmed if kept.is_whole else max(record.confirmed, kept.total)
        if begin > kept.received and not kept.is_whole:  # some unstored audio is not kept any more: write it anew
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

    def _note_answer(self, sent: float) -> None:
        """Note that a call that was sent at a time was answered."""
        self._reached_at = sent
        self._set_switch(sent)
        if self._unstored_before is not None:
            finals, self._unstored_before = self.unstored - self._unstored_before, None
            logger.info("streams are stored again; %d finals were sent unstored", finals)

    def _continue_unstored(self, error: Unavailable) -> None:
        """Send the finals that wait to be stored, and give up streams whose clients are not connected, in time."""
        self._set_switch(asyncio.get_running_loop().time())  # this process is not stopped
        if self._unstored_before is None:  # logged once, as a call that is refused is repeated at once
            self._unstored_before = self.unstored
            logger.warning("%d streams cannot be stored: %s; finals are sent unstored", len(self._kept), error)
        self.unstored += sum(kept.record.deliver_unstored() for kept in self._kept.values())
        if asyncio.get_running_loop().time() - self._reached_at >= DISCONNECT_AFTER:
            for kept in [kept for kept in self._kept.values() if not kept.record.is_connected]:
                self.forget(kept.record)
                kept.lost()

    def _asked_for(self, name: str) -> None:
        """Give up a stream for which another process asks."""
        if (kept := self._kept.get(name)) is not None:
            kept.lost()
            return
        self._call_in_background("disown", name)

    def _call_in_background(self, call: str, name: str) -> None:
        async def calls() -> None:
            async with self._writing:  # a write in progress must come first
                with suppress(Unavailable):  # harmless: the other process asks again, or the stream expires
                    await self._call(call, name, self._process)

        task = asyncio.create_task(calls(), name=f"journal-{call}")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _take(self, name: str, owner: str) -> Any:
        return await self._call("take", name, self._process, owner, self._beats, self._channels, name)

    async def _call(self, name: str, stream: str, *arguments: str) -> Any:
        return await self._redis.run(self._script, self._keys(stream), [name, *arguments])

    def _keys(self, name: str) -> list[str]:
        return [self._redis.key(f"journal:{name}:{key}") for key in KEYS]


def _name(key: str) -> str:
    """Return a stream's name in Redis. It is a hash, so that nobody can resume the stream who only sees the name."""
    return hashlib.sha256(key.encode()).hexdigest()
