"""How many read each transcript, over all processes, in Redis. `seats.lua` decides.

Each process says again and again how many readers it has, so those of one that died are not counted for long. While
Redis is away, each process counts for itself: nobody is refused because of it, or waits for long.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.cluster import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from speechbridge.cluster.redis.connection import Redis
    from speechbridge.cluster.transcript import Transcript

SCRIPT = Path(__file__).with_name("seats.lua")
ALIVE_SECONDS = 6.0  # for which a process's readers count, after it has said how many it has
BEAT_SECONDS = 2.0  # between two times that it says so
TRY_SECONDS = 1.0  # after a call that failed, in which no other is made


class Seats:
    """The readers here. `begin` runs something in a task of a name."""

    def __init__(self, redis: Redis, begin: Callable[[Coroutine[Any, Any, None], str], object]) -> None:
        self._redis = redis
        self._begin = begin
        self._script = redis.script(SCRIPT)
        self._process = secrets.token_hex(8)
        self._rooms: dict[str, _Room] = {}
        self._tries_at = -math.inf

    async def enter(self, name: str, transcript: Transcript, most: int) -> bool:
        """Count one more reader of a transcript, unless there are so many; whether it may read.

        Cancellation: it is not counted here; elsewhere for a while, perhaps.
        """
        room = self._rooms.get(name)
        if room is None or room.transcript is not transcript:
            room = self._rooms[name] = _Room(transcript)
        async with room.calling:
            if transcript.readers >= most or not await self._call(name, transcript.readers, most):
                return False
            transcript.readers += 1
            if not room.is_told:
                room.is_told = True
                self._begin(self._tell(name, room), "share-seats")
            return True

    def leave(self, name: str, transcript: Transcript) -> None:
        """Count one reader less. Never waits."""
        transcript.readers -= 1
        if (room := self._rooms.get(name)) is not None:
            room.changed.set()

    async def _tell(self, name: str, room: _Room) -> None:
        """Say how many readers there are, as long as there are any."""
        while room.is_told:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await room.changed.wait()
            room.changed.clear()
            async with room.calling:
                await self._call(name, room.transcript.readers)
                room.is_told = room.transcript.readers > 0
        if self._rooms.get(name) is room:
            del self._rooms[name]

    async def _call(self, name: str, readers: int, most: int | None = None) -> bool:
        clock = asyncio.get_running_loop().time
        if clock() >= self._tries_at:
            keys = [self._redis.key(f"shares:{name}:seats")]
            told = "" if most is None else str(most)
            try:
                arguments = (self._process, round(ALIVE_SECONDS * 1000), readers, told)
                return bool(await self._redis.run(self._script, keys, arguments))
            except Unavailable:
                self._tries_at = clock() + TRY_SECONDS
        return True


class _Room:
    """One transcript's readers here."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.calling = asyncio.Lock()  # so that a number that was said earlier comes earlier
        self.changed = asyncio.Event()  # there are fewer
        self.is_told = False  # a task says how many there are
