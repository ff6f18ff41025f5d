"""A scripted upstream that breaks, and records which samples of which stream it was given."""

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

LAG = int(0.2 * RATE)  # samples that the upstream hears beyond an utterance before it is sure of it

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
HANDSHAKE = ("stall", "HTTP 502")  # they break what comes after a break
KINDS = ("rst", "fin", "drop", *CLOSES, "silence", "pings", "deaf", "blocked send", "mute after end", *HANDSHAKE)
MUTE_AFTER_ROTATION = "mute after rotation"  # where there are rotations
AT_EOS_ONLY = ("mute after end", MUTE_AFTER_ROTATION)

# Until an upstream that reads no more drops the connection: it does not notice that its client has left.
DEAF_SECONDS = 5.0
BLOCKED_SECONDS = 30.0  # longer than a client may wait


@dataclass(frozen=True, slots=True)
class Fault:
    """How a connection breaks: after so many seconds of its audio, or else when it is told EOS."""

    kind: str
    after: float
    at_end: bool = False
    answers_first: bool = True  # sends the responses that are due before it breaks

    def breaks_at_eos(self, *, is_ended: bool) -> bool:
        """Tell whether it breaks when it is told EOS: the client's own, if that has ended, or a rotation's."""
        match self.kind:
            case "1000 end":  # no fault then, but what a stream is to end with
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
    """Break each connection of a stream, about every `every` seconds of audio; sometimes several before any word."""
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
    """What the upstream knows of one client's stream. Positions are in samples, times in seconds."""

    length: int
    faults: Iterator[Fault | None] = field(default_factory=no_faults)
    given: list[tuple[int, int]] = field(default_factory=list)  # from where to where, for each connection
    displaced: int = 0  # messages that were not the samples that `start_ts` and what came before let expect
    cut: set[int] = field(default_factory=set)  # words that a connection was given only a part of
    cut_by: set[tuple[int, int]] = field(default_factory=set)  # of which a final was said, with its connection
    may_miss: int = 0  # samples of silence at the end that may lie in a buffer when all before them is answered
    is_ended: bool = False  # the client has sent EOS, or is about to
    open: int = 0
    most_open: int = 0
    breaks: Counter[str] = field(default_factory=Counter)
    broken: tuple[str, float, int] | None = None  # the first break not recovered from: kind, when, connection
    worst: dict[str, float] = field(default_factory=dict)  # seconds from a break to the next answer at the client

    @property
    def lost(self) -> int:
        """Samples never given to any connection."""
        lost = reached = 0
        for start, stop in sorted(self.given):
            lost += max(0, start - reached)
            reached = max(reached, stop)
        return lost + max(0, self.length - self.may_miss - reached)

    def breaks_now(self, kind: str, connection: int) -> None:
        self.breaks[kind] += 1
        self.broken = self.broken or (kind, time.monotonic(), connection)

    def is_answered(self, connection: int) -> None:
        """Note that the client got an answer of this connection."""
        if self.broken and connection > self.broken[2]:
            kind, since, _ = self.broken
            self.worst[kind] = max(self.worst.get(kind, 0.0), time.monotonic() - since)
            self.broken = None


class Hearing:
    """What one connection hears, and its responses: words by number and connection, "12@3"."""

    def __init__(self, stream: Stream, connection: int, position: int) -> None:
        self.start = self.end = position
        self.connection = connection
        self._stream = stream
        self._received = 0  # bytes: a message need not end where a sample does
        self._place = len(stream.given)
        self._next = spoken.word_at(position)
        stream.given.append((position, position))

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / RATE

    def hear(self, message: bytes) -> None:
        half = self._received % SAMPLE
        expected = spoken.audio(self.end, self.end + len(message) // SAMPLE + 1)[half : half + len(message)]
        self._stream.displaced += message != expected
        self._received += len(message)
        self.end = self.start + self._received // SAMPLE
        self._stream.given[self._place] = self.start, self.end

    def say(self, *, last: bool = False) -> Iterator[str]:
        """Say a final for each utterance that is over, and a partial for the rest."""
        while True:
            words = range(self._next, self._next - self._next % 2 + 2)
            is_over = spoken.word(words[-1])[1] + LAG <= self.end
            if last and not is_over:
                words = range(self._next, spoken.word_at(self.end))
            if not words or not (is_over or last):
                break
            self._stream.cut_by.update((number, self.connection) for number in words if self._is_cut(number))
            yield Final(*self._told(words)).encode()
            self._next = words[-1] + 1
        if begun := range(self._next, spoken.word_at(self.end)):
            yield Partial(*self._told(begun)).encode()

    def _told(self, words: range) -> tuple[float, float, tuple[Element, ...]]:
        elements = tuple(self._element(number) for number in words)
        return elements[0].ts or 0.0, elements[-1].end_ts or 0.0, elements

    def _is_cut(self, number: int) -> bool:
        start, stop = spoken.word(number)
        return start < self.start - RATE // 100 or stop > self.end  # what rounding takes away is no cut

    def _element(self, number: int) -> Element:
        start, stop = spoken.word(number)
        if self._is_cut(number):
            self._stream.cut.add(number)
        start, stop = max(start, self.start), min(stop, self.end)
        return Element(f"{number}@{self.connection}", "text", round(start / RATE, 2), round(stop / RATE, 2), 1.0)


class Upstream:
    """A `Handler` for `speechbridge.recognizer.server.serving`. A client is known by its `metadata`."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        self.streams = streams
        self._admitted: dict[str, tuple[Hearing, Fault | None]] = {}

    async def admit(self, connection: Connection) -> Refusal | None:
        query = {name: values[0] for name, values in parse_qs(connection.query).items()}
        stream = self.streams[query["metadata"]]
        fault = next(stream.faults)
        hearing = Hearing(stream, len(stream.given), round(float(query.get("start_ts", 0)) * RATE))
        if fault and fault.kind in HANDSHAKE:
            stream.breaks_now(fault.kind, hearing.connection)
            if fault.kind == "stall":
                await asyncio.Future()  # cancelled when the client leaves
            return Refusal(HTTPStatus.BAD_GATEWAY)
        self._admitted[connection.id] = hearing, fault
        return None

    async def handle(self, connection: Connection) -> None:
        hearing, fault = self._admitted.pop(connection.id)
        stream = hearing._stream
        stream.open += 1
        stream.most_open = max(stream.most_open, stream.open)
        try:
            await connection.send(Connected(connection.id).encode())
            fault = await self._listen(connection, hearing, fault)
            if fault is None:
                await connection.close(Close(1000, END_OF_INPUT))
            else:
                stream.breaks_now(fault.kind, hearing.connection)
                await _break(connection, fault.kind)
        finally:
            stream.open -= 1

    async def _listen(self, connection: Connection, hearing: Hearing, fault: Fault | None) -> Fault | None:
        """Answer audio until it is time to break, or EOS is answered: then None."""
        while True:
            message = await connection.receive()
            if message == EOS:
                breaks = fault if fault and fault.breaks_at_eos(is_ended=hearing._stream.is_ended) else None
                if breaks is None or breaks.answers_first:
                    for answer in hearing.say(last=True):
                        await connection.send(answer)
                return breaks
            assert isinstance(message, bytes)
            hearing.hear(message)
            # Nor is it one while EOS is on its way.
            good = hearing._stream.is_ended and fault is not None and fault.kind == "1000 end"
            breaks = fault if fault and not good and hearing.seconds >= fault.after else None
            if breaks is None or breaks.answers_first:
                for answer in hearing.say():
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
        case "pings":  # like silence; but there is life in it
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
