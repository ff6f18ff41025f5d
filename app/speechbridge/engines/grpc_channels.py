"""Channels of gRPC's: made when they are needed, shared by streams, closed in the end.

What was measured of them, and what is done about it here:

- A connection carries 100 streams at most, further ones wait silently: here each channel carries fewer.
- Whoever wants to know whether a channel has connected gets a thread that looks for up to 0.2 s longer than it is asked
  to, and dies with a traceback if the channel is closed meanwhile: closing waits for it.

Private names of grpc that this relies on: `Channel._connectivity_state` and its `polling`, which tells whether there is
such a thread. tests/engines/test_google_canary.py fails when that changes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

LOOKS_ON = 5.0  # seconds, on a busy machine: see above
STREAMS = 80  # on one channel: servers allow 100 on a connection


@dataclass
class Channel:
    """A channel, an SDK's client on it, and how many streams it carries."""

    grpc: Any
    client: Any
    streams: int = 0
    is_connected: bool = False  # as far as is known


@dataclass
class Channels:
    """The channels to one service. `make` makes one, with a client on it. Thread-safe."""

    make: Callable[[], tuple[Any, Any]]
    _all: list[Channel] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def lease(self) -> Iterator[Channel]:
        """Yield a channel with room for a stream. It is made when it is needed."""
        with self._lock:
            channel = next((channel for channel in self._all if channel.streams < STREAMS), None)
            if channel is None:
                channel = Channel(*self.make())
                self._all.append(channel)
            channel.streams += 1
        try:
            yield channel
        finally:
            with self._lock:
                channel.streams -= 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close all of them in the end."""
        try:
            yield
        finally:
            deadline = time.monotonic() + LOOKS_ON
            while any(map(_is_looked_at, self._all)) and time.monotonic() < deadline:  # noqa: ASYNC110 # a thread ends
                await asyncio.sleep(0.02)
            with self._lock:
                for channel in self._all:
                    channel.grpc.close()
                self._all.clear()


def _is_looked_at(channel: Channel) -> bool:
    state = getattr(channel.grpc, "_connectivity_state", None)
    return state is not None and bool(state.polling)
