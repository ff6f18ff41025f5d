"""gRPC channels: made when they are needed, shared by streams, closed at shutdown.

Observed flaws of gRPC, and what this module does about them:

- A connection carries at most 100 streams, and further ones wait silently: here each channel carries fewer.
- To watch a channel's connectivity, gRPC starts a thread that polls it. After `unsubscribe` this thread polls for up to
  0.2 s more, and dies with a traceback if the channel is closed meanwhile: `running` waits for the thread first.

Private names of grpc that this relies on: `Channel._connectivity_state` and its `polling`, which is true while that
thread runs. tests/engines/test_google_canary.py fails when they change.
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

POLLING_SECONDS = 5.0  # for that thread to end, on a busy machine
STREAMS = 80  # on one channel: servers allow 100 on a connection


@dataclass
class Channel:
    """A channel, an SDK's client on it, and the number of its streams."""

    grpc: Any
    client: Any
    streams: int = 0
    is_connected: bool = False  # when it was used last


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
        """Close all channels when the context ends."""
        try:
            yield
        finally:
            deadline = time.monotonic() + POLLING_SECONDS
            while any(map(_is_polled, self._all)) and time.monotonic() < deadline:  # noqa: ASYNC110 # no event tells
                await asyncio.sleep(0.02)
            with self._lock:
                for channel in self._all:
                    channel.grpc.close()
                self._all.clear()


def _is_polled(channel: Channel) -> bool:
    state = getattr(channel.grpc, "_connectivity_state", None)
    return state is not None and bool(state.polling)
