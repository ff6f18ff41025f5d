"""Pairs each response with the position up to which audio was settled, for another process that continues a stream."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from syncbridge.start import close, started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from speechbridge.engines import Upstream


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier processes had of a stream. All in bytes."""

    begin: int = 0  # where this session's audio begins in the stream; 0 for encoded audio
    known: int = 0  # so much at the beginning of this session's audio was received, and counted, before
    again: int = 0  # so many samples at its beginning were counted before; 0 if it is encoded, as that is not known
    skip: int = 0  # so many samples at its beginning are settled: the SDK must not get them


class Follower(Protocol):
    """Receives notice of the audio that an upstream has settled. Called on the event loop."""

    before: Before

    def settled(self, position: int) -> None:
        """Note that the responses sent so far settle this number of bytes. Called with 0 at the beginning."""

    def disconnected(self) -> None:
        """Note that the upstream connection is closed."""


class Settling:
    """Notes in the upstream's thread how much is settled at each response; reports it when that response was sent.

    The two times differ: when a response is sent, the upstream may have settled more, by responses that are still
    queued. Nothing is reported for an upstream that settles nothing.
    """

    def __init__(self, upstream: Upstream, follower: Follower | None) -> None:
        self._upstream = upstream
        self._follower = follower if upstream.statistics is not None else None
        self._positions: deque[int] = deque()  # for each queued response, the settled position
        self._loop = asyncio.get_running_loop()
        if self._follower is not None:
            self._follower.settled(0)

    def start(self, audio: Iterator[bytes]) -> Iterable[str]:
        """Start the upstream."""
        return self._upstream.start(audio) if self._follower is None else self._followed(audio, self._follower)

    def _followed(self, audio: Iterator[bytes], follower: Follower) -> Iterator[str]:
        statistics, responses = self._upstream.statistics, started(self._upstream.start, audio)
        assert statistics is not None  # noqa: S101 # there is a follower
        try:
            for response in responses:
                self._positions.append(statistics().settled)
                yield response
        finally:
            close(responses)
            with suppress(RuntimeError):  # the loop was closed while the thread ran
                self._loop.call_soon_threadsafe(follower.disconnected)

    def sent(self) -> None:
        """Note that a response was sent, as any number of messages."""
        if self._follower is not None:
            self._follower.settled(self._positions.popleft())
