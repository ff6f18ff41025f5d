"""Up to where finals cover a stream's audio, beside each final: what another process needs to go on behind it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from syncbridge.start import close, started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from speechbridge.engines import Upstream


class Follower(Protocol):
    """One who is told what an upstream has settled. Called on the event loop.

    `skip` is how many bytes of samples are settled already, of those that the session will be given.
    """

    skip: int

    def settled(self, position: int) -> None:
        """Note that the responses that were sent settle so many bytes of audio. Called with 0 at the begin."""

    def hung_up(self) -> None:
        """Note that the upstream has no connection any more."""


class Settling:
    """Notes, in the upstream's thread, how much is settled at each response; tells it when that response has been sent.

    By then the upstream may have settled more, of which the responses are still on their way. An upstream that settles
    nothing tells nobody.
    """

    def __init__(self, upstream: Upstream, follower: Follower | None) -> None:
        self._upstream = upstream
        self._follower = follower if upstream.statistics is not None else None
        self._positions: deque[int] = deque()  # of responses that are on their way
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
                self._loop.call_soon_threadsafe(follower.hung_up)

    def sent(self) -> None:
        """Note that a response was sent, in whatever messages."""
        if self._follower is not None:
            self._follower.settled(self._positions.popleft())
