"""A sync-generator SDK of no vendor's that breaks, in front of the library alone: neither sockets nor the service.

Like most it sends in a thread of its own, through a connection that holds few messages: when its server reads no more,
a send is blocked until the connection is closed. It has no timeout of its own, so only the library can help it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from speechbridge.audio import RATE, SAMPLE, loudness
from speechbridge.protocol.messages import Final, parse_message
from syncbridge import Attempt, Bridge, Early, Limits, Resumable, Resumption, Stuck
from tests.helpers import spoken
from tests.helpers.breaking_upstream import MUTE_AFTER_ROTATION, Hearing
from tests.helpers.crowd import Heard, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.breaking_upstream import Fault, Stream
    from tests.helpers.crowd import Crowd

PLAIN_KINDS = ("blocked send", MUTE_AFTER_ROTATION, "mute after end", "early end")

# Seconds for last words. Several attempts in a row may be stuck after the end, each up to twice as long as the one
# before; but one that has said all, and does not end, is waited for so long.
ANSWER, ANSWER_WHEN_MUTE = 60.0, 10.0

HOLDS = 2  # messages that a connection takes while nobody reads
SPEECH = 500  # root mean square; what is spoken is far louder, what is not is far less


class HungUp(Exception):
    """What the SDK raises when its connection was closed: an error that is not known to pass."""


class Connection:
    """A queue of few messages, with a close that wakes either side. None is the end of the input."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: deque[bytes | None] = deque()
        self._is_closed = False

    def send(self, message: bytes | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._messages) < HOLDS)
            if self._is_closed:
                raise HungUp
            self._messages.append(message)
            self._changed.notify_all()

    def receive(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._messages)
            if self._is_closed:
                raise HungUp
            self._changed.notify_all()
            return self._messages.popleft()

    def wait_for_close(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class PlainSdk:
    """The SDK of one stream, and the server behind it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def connect(self, position: int) -> Attempt[bytes, str]:
        connection, fault = Connection(), next(self._stream.faults)
        hearing = Hearing(self._stream, len(self._stream.given), position // SAMPLE)
        return Attempt(lambda feed: self._start(feed, connection, hearing, fault), connection.close, b"".join)

    def _start(
        self, feed: Iterator[bytes], connection: Connection, hearing: Hearing, fault: Fault | None
    ) -> Iterator[str]:
        def send() -> None:
            try:
                for chunk in feed:
                    connection.send(chunk)
                connection.send(None)
            except HungUp:
                return

        sender = threading.Thread(target=send, name="plain-sdk-sender", daemon=True)
        self._stream.open += 1
        self._stream.most_open = max(self._stream.most_open, self._stream.open)
        sender.start()
        try:
            yield from self._answer(connection, hearing, fault)
        finally:
            connection.close()
            self._stream.open -= 1

    def _answer(self, connection: Connection, hearing: Hearing, fault: Fault | None) -> Iterator[str]:
        while True:
            message = connection.receive()
            is_last = message is None
            if message is not None:
                hearing.hear(message)
            breaks = fault is not None and self._breaks_now(fault, hearing, is_last=is_last)
            if not breaks or (fault and fault.answers_first):
                yield from hearing.say(last=is_last)
            if breaks and fault:
                self._stream.breaks_now(fault.kind, hearing.connection)
                if fault.kind == "early end":
                    return
                connection.wait_for_close()
                if fault.answers_first:  # an SDK may just end, too, when its connection is closed
                    return
                raise HungUp
            if is_last:
                return

    def _breaks_now(self, fault: Fault, hearing: Hearing, *, is_last: bool) -> bool:
        if fault.kind == "early end" and (is_last or self._stream.is_ended):
            return False  # it is none, or the SDK was told of the end already, and nobody can tell the two apart
        return fault.breaks_at_eos(is_ended=self._stream.is_ended) if is_last else hearing.seconds >= fault.after


def _settled(response: str, _begun: int) -> int | None:
    message = parse_message(response)  # its times are the stream's, rounded to 10 ms
    return round(((message.end_ts or 0.0) + 0.005) * RATE) * SAMPLE if isinstance(message, Final) else None


def is_quiet(piece: bytes) -> bool:
    return loudness(piece) < SPEECH


def rules(lifetime: float | None, answer: float, *, knows_quiet: bool) -> Resumption[str]:
    return Resumption(
        settled=_settled,
        again=lambda error: isinstance(error, Stuck | Early),
        pause=lambda _failures: 0.05,
        room=60 * RATE * SAMPLE,
        hold=30.0,
        unit=SAMPLE,
        lifetime=lifetime,
        quiet=is_quiet if knows_quiet else None,
        silence=1.0,
        answer=answer,
        speech=lambda piece: not is_quiet(piece),
    )


async def speak(stream: Stream, pace: float, resumption: Resumption[str]) -> Heard:
    """Send a stream's audio through a bridge at a multiple of real time; return what came."""
    heard, sdk = Heard(), PlainSdk(stream)
    resumable = Resumable(sdk.connect, resumption)
    try:
        async with Bridge(resumable, abort=resumable.abort, join=b"".join, limits=Limits(inbound=8)) as bridge:
            sending = asyncio.create_task(_send(bridge, stream, pace))
            async for response in bridge:
                heard.hear(parse_message(response), stream)
            await sending
    except Exception as error:  # noqa: BLE001 # whatever it is, it should not be
        heard.trouble.append(f"ended with {error!r}")
    heard.ends(stream)
    return heard


async def _send(bridge: Bridge[bytes, str], stream: Stream, pace: float) -> None:
    begun = time.monotonic()
    for start in range(0, stream.length, spoken.CHUNK):
        await asyncio.sleep(begun + start / RATE / pace - time.monotonic())
        await bridge.send(spoken.audio(start, min(start + spoken.CHUNK, stream.length)))
    stream.is_ended = True
    bridge.end()


async def talk(
    crowd: Crowd, pace: float, lifetime: float | None = None, *, knows_quiet: bool = True, answer: float = ANSWER
) -> Result:
    """Send all streams at once. `lifetime` is that of a connection, `answer` bounds the last words, in seconds."""
    begun, answer = time.monotonic(), ANSWER_WHEN_MUTE if "mute after end" in crowd.kinds else answer
    resumption = rules(lifetime, answer, knows_quiet=knows_quiet)
    heard = await asyncio.gather(*(speak(stream, pace, resumption) for stream in crowd.streams.values()))
    return Result(heard, list(crowd.streams.values()), time.monotonic() - begun)
