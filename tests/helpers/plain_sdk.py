"""A generic sync-generator SDK that breaks, used with the library alone: without sockets and without the service.

Like most SDKs it sends in a thread of its own, through a connection that buffers few messages: when its server stops
reading, a send blocks until the connection is closed. It has no timeouts, so only the library can end such a wait.
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
from tests.helpers.breaking_upstream import MUTE_AFTER_ROTATION, Recognition
from tests.helpers.crowd import Received, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.breaking_upstream import Fault, Stream
    from tests.helpers.crowd import Crowd

PLAIN_KINDS = ("blocked send", MUTE_AFTER_ROTATION, "mute after end", "early end")

# Seconds for last words. Several attempts in a row may hang after the end, each for up to twice as long as the one
# before. The second value is for "mute after end": an attempt that has answered everything, and does not end, costs
# the whole time.
ANSWER, ANSWER_WHEN_MUTE = 60.0, 10.0

HOLDS = 2  # messages that a connection buffers
SPEECH = 500  # root mean square; words are far louder, pauses are far quieter


class HungUp(Exception):
    """The SDK raises it when its connection was closed: an error that the library does not know."""


class Connection:
    """A small queue of messages; closing it wakes both sides. None is the end of the input."""

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
        recognition = Recognition(self._stream, len(self._stream.given), position // SAMPLE)
        return Attempt(lambda feed: self._start(feed, connection, recognition, fault), connection.close, b"".join)

    def _start(
        self, feed: Iterator[bytes], connection: Connection, recognition: Recognition, fault: Fault | None
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
            yield from self._answer(connection, recognition, fault)
        finally:
            connection.close()
            self._stream.open -= 1

    def _answer(self, connection: Connection, recognition: Recognition, fault: Fault | None) -> Iterator[str]:
        while True:
            message = connection.receive()
            is_last = message is None
            if message is not None:
                recognition.receive(message)
            breaks = fault is not None and self._breaks_now(fault, recognition, is_last=is_last)
            if not breaks or (fault and fault.answers_first):
                yield from recognition.answers(last=is_last)
            if breaks and fault:
                self._stream.note_break(fault.kind, recognition.connection)
                if fault.kind == "early end":
                    return
                connection.wait_for_close()
                if fault.answers_first:  # some SDKs end without an error when their connection is closed
                    return
                raise HungUp
            if is_last:
                return

    def _breaks_now(self, fault: Fault, recognition: Recognition, *, is_last: bool) -> bool:
        if fault.kind == "early end" and (is_last or self._stream.is_ended):
            return False  # then it is a normal end, or cannot be told from one
        return fault.breaks_at_eos(is_ended=self._stream.is_ended) if is_last else recognition.seconds >= fault.after


def _settled(response: str, _begun: int) -> int | None:
    message = parse_message(response)  # with times of the stream, rounded to 10 ms
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


async def speak(stream: Stream, pace: float, resumption: Resumption[str]) -> Received:
    """Send a stream's audio through a bridge at a multiple of real time; return what was received."""
    received, sdk = Received(), PlainSdk(stream)
    resumable = Resumable(sdk.connect, resumption)
    try:
        async with Bridge(resumable, abort=resumable.abort, join=b"".join, limits=Limits(inbound=8)) as bridge:
            sending = asyncio.create_task(_send(bridge, stream, pace))
            async for response in bridge:
                received.add(parse_message(response), stream)
            await sending
    except Exception as error:  # noqa: BLE001 # any error is a failure of the test
        received.trouble.append(f"ended with {error!r}")
    received.ends(stream)
    return received


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
    """Send all streams at once. `lifetime` of a connection, and `answer`, the limit for last words, are in seconds."""
    begun, answer = time.monotonic(), ANSWER_WHEN_MUTE if "mute after end" in crowd.kinds else answer
    resumption = rules(lifetime, answer, knows_quiet=knows_quiet)
    received = await asyncio.gather(*(speak(stream, pace, resumption) for stream in crowd.streams.values()))
    return Result(received, list(crowd.streams.values()), time.monotonic() - begun)
