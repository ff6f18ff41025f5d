"""Shared transcripts in Redis, so that readers can connect to any process.

The speaker's process has the transcript itself, and adds what Redis lacks (`_Writer`). Finals are numbered, so it does
no harm if a call is executed twice, or not at all, or if Redis has lost everything. A process with readers keeps a copy
(`_Copy`): it receives published messages, and looks up what it missed every LOOK_SECONDS.

If nothing is heard of a speaker's process, it may be dead; or Redis was unavailable or has lost its data, and is told
soon. So a transcript counts as ended only after QUIET_SECONDS in which Redis answers and nothing is heard; and if the
speaker may resume its stream at another process, as much later as it has time for that.

The names of keys hold a hash of the token, so nobody can read a transcript who only sees the names.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbridge.cluster import Unavailable
from speechbridge.cluster.memory import MemoryShares
from speechbridge.cluster.redis.seats import Seats
from speechbridge.cluster.transcript import Position, Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis.commands.core import AsyncScript

    from speechbridge.cluster.redis.connection import Redis
    from speechbridge.protocol.reading import Entry

SCRIPT = Path(__file__).with_name("shares.lua")
KEYS = ("finals", "state", "alive", "readers")
ANNOUNCE_SECONDS = 0.5  # that a speaker waits for its token to be known at other processes, at most
BEAT_SECONDS = 5.0  # between two calls of a speaker's process that has nothing to add
ALIVE_SECONDS = 12.0  # without such a call after which nothing is heard of the process
QUIET_SECONDS = 8.0  # of that, after which it counts as dead: by then it has tried again, whatever happened to Redis
LOOK_SECONDS = 2.0  # between two calls of a process with readers, which may have missed a message
READ_SECONDS = 10.0  # without such a call after which messages are no longer published for it
PAUSE_SECONDS = 0.5  # after a failed call
BATCH = 64  # finals in one call


class RedisShares:
    """Implements `Shares`. A transcript is kept for `seconds` after its end."""

    def __init__(self, redis: Redis, seconds: float) -> None:
        self.redis = redis
        self.seconds = seconds
        self.channel = redis.key("shares")
        self._script: AsyncScript = redis.script(SCRIPT)
        self._own = MemoryShares(seconds)  # transcripts of speakers at this process
        self._copies: dict[str, _Copy] = {}  # transcripts of speakers at other processes, by name
        self._tasks: set[asyncio.Task[None]] = set()
        self._seats = Seats(redis, self._begin)
        redis.listen(self.channel, self._receive)

    async def call(self, name: str, *arguments: str | float) -> Any:
        """Run a call of the script for the transcript of this name. Raises Unavailable."""
        keys = [self.redis.key(f"shares:{name}:{key}") for key in KEYS]
        return await self.redis.run(self._script, keys, arguments)

    async def announce(self, token: str) -> None:
        name, keep = _name(token), ALIVE_SECONDS + QUIET_SECONDS
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await self.call(
                    name, "add", self.channel, name, round(keep * 1000), round(ALIVE_SECONDS * 1000), "live", "", 0
                )

    @contextmanager
    def sharing(self, token: str, before: Sequence[Entry] = (), away_seconds: float = 0.0) -> Iterator[Transcript]:
        with self._own.sharing(token, before) as transcript:
            self._begin(_Writer(self, _name(token), transcript, ALIVE_SECONDS + away_seconds).run(), "share-writer")
            yield transcript

    async def find(self, token: str) -> Transcript | None:
        if (own := await self._own.find(token)) is not None:
            return own
        name = _name(token)
        copy = self._copies.get(name)
        if copy is None:
            copy = _Copy(self, name)
            if not await copy.look():
                return None
            if name in self._copies:  # another reader has added it meanwhile
                return self._copies[name].transcript
            self._copies[name] = copy
            self._begin(self._keep(copy), "share-copy")
        return copy.transcript

    async def enter(self, token: str, transcript: Transcript, most: int) -> bool:
        return await self._seats.enter(_name(token), transcript, most)

    def leave(self, token: str, transcript: Transcript) -> None:
        self._seats.leave(_name(token), transcript)

    async def _keep(self, copy: _Copy) -> None:
        try:
            await copy.follow()
        finally:
            del self._copies[copy.name]

    def _receive(self, message: str) -> None:
        name, what, text = message.split(" ", 2)
        if (copy := self._copies.get(name)) is not None:
            copy.receive(what, text)

    def _begin(self, running: Any, name: str) -> None:
        task = asyncio.create_task(running, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Wait shortly until Redis has this process's transcripts; then end all tasks."""
        for copy in self._copies.values():
            copy.transcript.end()
            copy.must_look.set()
        if self._tasks:
            await asyncio.wait({*self._tasks}, timeout=PAUSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Writer:
    """Writes a transcript to Redis, until it has ended and Redis has all of it."""

    def __init__(self, shares: RedisShares, name: str, transcript: Transcript, alive_seconds: float) -> None:
        self._shares = shares
        self._name = name
        self._transcript = transcript
        self._alive_seconds = alive_seconds
        transcript.stored = 0
        self._position = Position()  # what Redis has

    async def run(self) -> None:
        clock, gives_up_at = asyncio.get_running_loop().time, math.inf
        while clock() < gives_up_at:
            if self._transcript.is_over and gives_up_at == math.inf:
                gives_up_at = clock() + self._shares.seconds  # by then it would have expired anyway
            before = replace(self._position)
            try:
                is_complete = await self._add()
                self._transcript.stored = self._position.finals
                if is_complete:
                    return
            except Unavailable:
                self._position = before
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if self._transcript.is_moved and not self._transcript.has_more(self._position):
                return  # another process adds what follows
            if not self._transcript.is_over:
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_SECONDS):
                        await self._transcript.more(self._position)

    async def _add(self) -> bool:
        """Add what Redis lacks, as much as fits into one call. Returns whether that completes an ended stream."""
        shares, transcript, position = self._shares, self._transcript, self._position
        entries = transcript.take(position)
        finals = [entry.text for entry in entries if entry.number]
        partial = "".join(entry.text for entry in entries if not entry.number)
        is_last = transcript.is_over and not transcript.has_more(position)
        keep = shares.seconds if is_last else shares.seconds + self._alive_seconds + QUIET_SECONDS
        state = "over" if is_last else "live"
        known = position.finals - len(finals)
        about = (
            shares.channel,
            self._name,
            round(keep * 1000),
            round(self._alive_seconds * 1000),
            state,
            partial,
            known,
        )
        position.finals = await shares.call(self._name, "add", *about, *finals)  # fewer if Redis has lost some
        return is_last and position.finals == len(transcript.finals)


class _Copy:
    """A copy of the transcript of a speaker at another process, for readers at this one."""

    def __init__(self, shares: RedisShares, name: str) -> None:
        self.name = name
        self.transcript = Transcript()
        self.must_look = asyncio.Event()  # a message was missed, or the stream has ended
        self._shares = shares
        self._quiet_since: float | None = None  # since when nothing is heard of its speaker's process

    async def look(self) -> bool:
        """Look up finals that were missed. Returns whether the transcript exists. Raises Unavailable."""
        while True:
            known = len(self.transcript.finals)
            now, *found = await self._shares.call(self.name, "look", round(READ_SECONDS * 1000), known, BATCH)
            for number, text in enumerate(found, known + 1):
                self._add(number, text)
            if now == "over" or self._is_dead(is_quiet=now in ("lost", "quiet")):
                self.transcript.end()
            if len(found) < BATCH:
                return bool(now != "lost")

    def _is_dead(self, *, is_quiet: bool) -> bool:
        """Note whether the speaker's process is not heard of; whether that has been so for too long."""
        now = asyncio.get_running_loop().time()
        if not is_quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        return self._quiet_since is not None and now - self._quiet_since >= QUIET_SECONDS

    def receive(self, what: str, text: str) -> None:
        """Handle a published message."""
        if what == "partial":
            self.transcript.add(text)
        elif what == "over" or not self._add(int(what), text):
            self.must_look.set()

    def _add(self, number: int, text: str) -> bool:
        """Add a final, unless it is known. Returns False if an earlier one is missing."""
        if number == len(self.transcript.finals) + 1:
            self.transcript.add(text)
        return number <= len(self.transcript.finals)

    async def follow(self) -> None:
        """Keep the copy up to date, until the stream has ended, or nobody has read it for READ_SECONDS."""
        clock = asyncio.get_running_loop().time
        read_at = clock()
        while not self.transcript.is_over and clock() - read_at < READ_SECONDS:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.must_look.wait()
            self.must_look.clear()
            if self.transcript.readers:
                read_at = clock()
            try:
                await self.look()
            except Unavailable:  # the next look-up finds what this one missed
                self._quiet_since = None


def _name(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
