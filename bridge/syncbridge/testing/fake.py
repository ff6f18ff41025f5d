"""An SDK in the same process with a given behaviour, which any thread can close."""

from __future__ import annotations

import queue
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncbridge.testing.subject import Behaviour, Subject, from_now_on
from syncbridge.types import Attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PATIENCE = 30.0  # seconds; nobody waits this long unless something is broken


@dataclass(frozen=True, slots=True)
class Response:
    """How many bytes the connection was given so far; the last one comes after the end of the input."""

    size: int
    is_last: bool


class FakeSdk:
    """Its first connection has the given behaviour. All later ones answer."""

    def __init__(self, behaviour: Behaviour = Behaviour.ANSWERS) -> None:
        self._behaviours = from_now_on(behaviour)

    def connect(self) -> FakeConnection:
        """Make a connection. It connects when `stream` is iterated."""
        return FakeConnection(next(self._behaviours))


class FakeConnection:
    """One connection. Like Rev.ai's SDK it reads its input in a thread of its own."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._closed = threading.Event()

    def stream(self, feed: Iterator[bytes]) -> Iterator[Response]:
        """Yield responses. Raises ConnectionError, or PermissionError for a refusal."""
        if self._behaviour is Behaviour.REFUSES:
            raise PermissionError
        taken: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        threading.Thread(target=self._take, args=(feed, taken), name="fake-sdk-sender", daemon=True).start()
        total = 0
        while (size := taken.get()) is not None:
            total += size
            if total == size and self._behaviour is Behaviour.ENDS_EARLY:
                return
            if total == size:
                yield self._first(size)
        if self._closed.is_set():
            raise ConnectionAbortedError
        if self._behaviour is not Behaviour.ANSWERS:
            self._stall()
        yield Response(total, is_last=True)

    def close(self) -> None:
        """Wake all threads that wait on the connection. Thread-safe."""
        self._closed.set()

    def _first(self, size: int) -> Response:
        if self._behaviour is Behaviour.BREAKS:
            raise ConnectionResetError
        if self._behaviour is Behaviour.MUTE:
            self._stall()
        return Response(size, is_last=False)

    def _take(self, feed: Iterator[bytes], taken: queue.SimpleQueue[int | None]) -> None:
        for chunk in feed:
            if self._behaviour is Behaviour.DEAF:  # it is blocked in a send
                self._closed.wait(PATIENCE)
                break
            if chunk:
                taken.put(len(chunk))
        taken.put(None)

    def _stall(self) -> None:
        if not self._closed.wait(PATIENCE):
            raise TimeoutError("nobody closed it")
        raise ConnectionAbortedError


@asynccontextmanager
async def fake(behaviour: Behaviour) -> AsyncIterator[Subject[Response]]:
    """Yield a `FakeSdk` as a subject. An adapter's author writes the same for an SDK."""
    sdk = FakeSdk(behaviour)

    def connect(_position: int) -> Attempt[bytes, Response]:
        connection = sdk.connect()
        return Attempt(connection.stream, connection.close, b"".join)

    yield Subject(
        connect=connect,
        received=lambda response: response.size if response.is_last else None,
        again=lambda error: isinstance(error, ConnectionError),
        settled=lambda response, begun: begun + response.size if response.is_last else None,
    )
