"""A scripted upstream that breaks its connections, and records which samples of which stream it received."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from speechbridge.audio import RATE, SAMPLE
from speechbridge.protocol.close import END_OF_INPUT, LIFETIME_REACHED, NO_DATA, Close
from speechbridge.protocol.messages import EOS, Connected, Element, Final, Partial
from speechbridge.recognizer.server import Connection, Refusal
from tests.helpers import spoken

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

LAG = int(0.2 * RATE)  # samples after an utterance that the upstream needs before it sends the final

CLOSES = {
    "1011": Close(1011, "internal error"),
    "4010": Close(4010, "server shutting down"),
    "4013": Close(4013, "no instance available"),
    "4029": Close(4029, "too many requests"),
    "1000 no data": Close(1000, NO_DATA),
    "1000 lifetime": Close(1000, LIFETIME_REACHED),
    "1000 end": Close(1000, END_OF_INPUT),
    "no code": None,
}
HANDSHAKE = ("stall", "HTTP 502")  # they break the handshake of the reconnect after a break
KINDS = ("rst", "fin", "drop", *CLOSES, "silence", "pings", "deaf", "blocked send", "mute after end", *HANDSHAKE)
MUTE_AFTER_ROTATION = "mute after rotation"  # only for streams with rotation
AT_EOS_ONLY = ("mute after end", MUTE_AFTER_ROTATION)

# Seconds until an upstream that has stopped reading drops the connection: it does not notice that its client has left.
DEAF_SECONDS = 5.0
BLOCKED_SECONDS = 30.0  # longer than a client may wait


@dataclass(frozen=True, slots=True)
class Fault:
    """How a connection breaks: after so many seconds of its audio, or when it receives EOS."""

    kind: str
    after: float
    at_end: bool = False
    answers_first: bool = True  # sends the due responses before it breaks

    def breaks_at_eos(self, *, is_ended: bool) -> bool:
        """Tell whether it breaks at EOS. With `is_ended` it is the client's own EOS, otherwise that of a rotation."""
        match self.kind:
            case "1000 end":  # at EOS this is the normal end, and no fault
                return False
            case "mute after end":
                return self.at_end and is_ended
            case "mute after rotation":
                return self.at_end and not is_ended
        return self.at_end


def no_faults() -> Iterator[Fault | None]:
    while True:
        yield None


def faults(kinds: tuple[str, ...], every: float, dice: random.Random) -> Iterator[Fault | None]:
    """Break each connection of a stream, about every `every` seconds of audio; sometimes before the first word."""
    while True:
        kind = dice.choice(kinds)
        soon, after, at_end, answers_first = (
            dice.random() < 0.2,
            dice.uniform(0.5, 2 * every),
            dice.random() < 0.5,
            dice.random() < 0.5,
        )
        if kind in AT_EOS_ONLY:
            yield Fault(kind, math.inf, at_end, answers_first)
        elif kind in HANDSHAKE:
            yield Fault("rst", after, at_end, answers_first)
            yield Fault(kind, 0)
        else:
            yield Fault(kind, 0.1 * after if soon else after, at_end, answers_first)


@dataclass(slots=True)
class Stream:
    """The upstream's record of one client's stream. Positions are in samples, times in seconds."""

    length: int
    faults: Iterator[Fault | None] = field(default_factory=no_faults)
    given: list[tuple[int, int]] = field(default_factory=list)  # for each connection, the first position and the last
    displaced: int = 0  # messages that are not the samples that must follow `start_ts` and the earlier messages
    cut: set[int] = field(default_factory=set)  # words of which a connection received only a part
    cut_by: set[tuple[int, int]] = field(default_factory=set)  # words in a final with only a part, and the connection
    may_miss: int = 0  # samples of silence at the end that may still be in a buffer when the stream ends
    is_ended: bool = False  # the client has sent EOS, or is about to
    open: int = 0
    most_open: int = 0
    breaks: Counter[str] = field(default_factory=Counter)
    broken: tuple[str, float, int] | None = None  # the first break without recovery yet: kind, time, connection
    worst: dict[str, float] = field(default_factory=dict)  # seconds from a break to the next answer at the client

    @property
    def lost(self) -> int:
        """Samples that no connection received."""
        lost = reached = 0
        for start, stop in sorted(self.given):
            lost += max(0, start - reached)
            reached = max(reached, stop)
        return lost + max(0, self.length - self.may_miss - reached)

    def note_break(self, kind: str, connection: int) -> None:
        self.breaks[kind] += 1
        self.broken = self.broken or (kind, time.monotonic(), connection)

    def note_answer(self, connection: int) -> None:
        """Note that the client received an answer of this connection."""
        if self.broken and connection > self.broken[2]:
            kind, since, _ = self.broken
            self.worst[kind] = max(self.worst.get(kind, 0.0), time.monotonic() - since)
            self.broken = None


class Recognition:
    """The audio of one connection, and its responses: words with their number and the connection, "12@3"."""

    def __init__(self, stream: Stream, connection: int, position: int) -> None:
        self.start = self.end = position
        self.connection = connection
        self._stream = stream
        self._received = 0  # bytes: a message may end within a sample
        self._place = len(stream.given)
        self._next = spoken.word_at(position)
        stream.given.append((position, position))

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / RATE

    def receive(self, message: bytes) -> None:
        half = self._received % SAMPLE
        expected = spoken.audio(self.end, self.end + len(message) // SAMPLE + 1)[half : half + len(message)]
        self._stream.displaced += message != expected
        self._received += len(message)
        self.end = self.start + self._received // SAMPLE
        self._stream.given[self._place] = self.start, self.end

    def answers(self, *, last: bool = False) -> Iterator[str]:
        """Yield a final for each utterance that is over, and a partial for the rest."""
        while True:
            words = range(self._next, self._next - self._next % 2 + 2)
            is_over = spoken.word(words[-1])[1] + LAG <= self.end
            if last and not is_over:
                words = range(self._next, spoken.word_at(self.end))
            if not words or not (is_over or last):
                break
            self._stream.cut_by.update((number, self.connection) for number in words if self._is_cut(number))
            yield Final(*self._content(words)).encode()
            self._next = words[-1] + 1
        if begun := range(self._next, spoken.word_at(self.end)):
            yield Partial(*self._content(begun)).encode()

    def _content(self, words: range) -> tuple[float, float, tuple[Element, ...]]:
        elements = tuple(self._element(number) for number in words)
        return elements[0].ts or 0.0, elements[-1].end_ts or 0.0, elements

    def _is_cut(self, number: int) -> bool:
        start, stop = spoken.word(number)
        return start < self.start - RATE // 100 or stop > self.end  # times are rounded to 10 ms

    def _element(self, number: int) -> Element:
        start, stop = spoken.word(number)
        if self._is_cut(number):
            self._stream.cut.add(number)
        start, stop = max(start, self.start), min(stop, self.end)
        return Element(f"{number}@{self.connection}", "text", round(start / RATE, 2), round(stop / RATE, 2), 1.0)


class Upstream:
    """A `Handler` for `speechbridge.recognizer.server.serving`. The `metadata` of a client identifies its stream."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        self.streams = streams
        self._admitted: dict[str, tuple[Recognition, Fault | None]] = {}

    async def admit(self, connection: Connection) -> Refusal | None:
        query = {name: values[0] for name, values in parse_qs(connection.query).items()}
        stream = self.streams[query["metadata"]]
        fault = next(stream.faults)
        recognition = Recognition(stream, len(stream.given), round(float(query.get("start_ts", 0)) * RATE))
        if fault and fault.kind in HANDSHAKE:
            stream.note_break(fault.kind, recognition.connection)
            if fault.kind == "stall":
                await asyncio.Future()  # cancelled when the client leaves
            return Refusal(HTTPStatus.BAD_GATEWAY)
        self._admitted[connection.id] = recognition, fault
        return None

    async def handle(self, connection: Connection) -> None:
        recognition, fault = self._admitted.pop(connection.id)
        stream = recognition._stream
        stream.open += 1
        stream.most_open = max(stream.most_open, stream.open)
        try:
            await connection.send(Connected(connection.id).encode())
            fault = await self._listen(connection, recognition, fault)
            if fault is None:
                await connection.close(Close(1000, END_OF_INPUT))
            else:
                stream.note_break(fault.kind, recognition.connection)
                await _break(connection, fault.kind)
        finally:
            stream.open -= 1

    async def _listen(self, connection: Connection, recognition: Recognition, fault: Fault | None) -> Fault | None:
        """Answer audio until the fault is due, and return the fault; None once EOS is answered."""
        while True:
            message = await connection.receive()
            if message == EOS:
                breaks = fault if fault and fault.breaks_at_eos(is_ended=recognition._stream.is_ended) else None
                if breaks is None or breaks.answers_first:
                    for answer in recognition.answers(last=True):
                        await connection.send(answer)
                return breaks
            assert isinstance(message, bytes)
            recognition.receive(message)
            # A normal end is no fault either while the client's EOS is on its way.
            good = recognition._stream.is_ended and fault is not None and fault.kind == "1000 end"
            breaks = fault if fault and not good and recognition.seconds >= fault.after else None
            if breaks is None or breaks.answers_first:
                for answer in recognition.answers():
                    await connection.send(answer)
            if breaks is not None:
                return breaks


async def _break(connection: Connection, kind: str) -> None:
    match kind:
        case "rst":
            await connection.drop(reset=True)
        case "fin":
            await connection.drop(reset=False)
        case "drop":
            connection._websocket.transport.abort()
        case "silence" | "mute after end" | "mute after rotation":
            while True:
                await connection.receive()
        case "pings":  # like silence, but with pings
            pinging = asyncio.create_task(_ping(connection))
            try:
                while True:
                    await connection.receive()
            finally:
                pinging.cancel()
                await asyncio.gather(pinging, return_exceptions=True)
        case "deaf":
            connection.stop_reading()
            await asyncio.sleep(DEAF_SECONDS)
            await connection.drop(reset=True)
        case "blocked send":
            connection.stop_reading()
            await asyncio.sleep(BLOCKED_SECONDS)
            await connection.drop(reset=True)
        case _:
            await connection.close(CLOSES[kind])


async def _ping(connection: Connection) -> None:
    while True:
        await connection._websocket.ping()
        await asyncio.sleep(0.05)
