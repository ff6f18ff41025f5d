"""Clients over real WebSockets that know what they sent, and check what they receive."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from speechbridge.audio import RATE
from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.protocol.messages import EOS, Final, Partial, parse_message
from speechbridge.protocol.request import PATH, ContentType, StreamRequest
from tests.helpers import spoken
from tests.helpers.breaking_upstream import Stream, Upstream, faults
from tests.helpers.encoded import encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.protocol.messages import Message
    from tests.helpers.encoded import Form

PATIENCE = 60.0  # seconds, for a crowd on a busy machine
TOLERANCE = 0.05  # seconds by which a timestamp may be wrong
READS_NO_MORE = {"blocked send", "stalls"}  # faults after which the upstream stays connected, but does not read


@dataclass(slots=True)
class Received:
    """What one client received."""

    words: int = 0  # the number of the next expected word
    missing: int = 0
    doubled: int = 0
    off: int = 0  # words with wrong times, or with times that run backwards
    untrue: int = 0  # words with wrong times, with those of which a connection received only a part
    cut: int = 0  # words in finals of which the connection received only a part
    ended: str = "not at all"
    trouble: list[str] = field(default_factory=list)
    _last: float = 0.0

    def add(self, message: Message | None, stream: Stream) -> None:
        if not isinstance(message, Partial | Final) or not message.words:
            return
        for element in message.words:
            number, connection = map(int, element.value.split("@"))
            stream.note_answer(connection)
            if isinstance(message, Final):
                self.cut += (number, connection) in stream.cut_by
                self._word(number, element.ts or 0.0, element.end_ts or 0.0, stream)

    def ends(self, stream: Stream) -> None:
        """Note the end of the messages."""
        if (rest := spoken.word_at(stream.length) - self.words) > 0:
            self.missing += rest
            self.trouble.append(f"the last {rest} words are missing")

    def _word(self, number: int, ts: float, end_ts: float, stream: Stream) -> None:
        if number < self.words:
            self.doubled += 1
            self.trouble.append(f"word {number} was received again, when {self.words} was due")
        elif number > self.words:
            self.missing += number - self.words
            self.trouble.append(f"words {self.words} to {number - 1} are missing")
        self.words = max(self.words, number + 1)
        truth = [place / RATE for place in spoken.word(number)]
        is_untrue = max(abs(ts - truth[0]), abs(end_ts - truth[1])) > TOLERANCE
        self.untrue += is_untrue
        is_off = is_untrue and number not in stream.cut
        if is_off or ts < self._last:
            self.off += 1
            self.trouble.append(f"word {number} is at {ts} to {end_ts}; it was spoken at {truth}; {self._last=}")
        self._last = end_ts


async def speak(url: str, name: str, stream: Stream, pace: float, form: Form | None = None) -> Received:
    """Send a stream's audio at a multiple of real time, then EOS; return what was received until the close.

    The audio is raw, or encoded in a lossless form.
    """
    received = Received()
    kind = ContentType.raw() if form is None else ContentType.parse(form.media)
    query = StreamRequest(kind, {"metadata": name, "custom_vocabulary_id": name}).query()
    # No pings: under back-pressure the service does not read, so it answers none, and a healthy connection would close.
    async with connect(
        f"{url}{PATH}?{query}", compression=None, proxy=None, ping_interval=None, close_timeout=1
    ) as socket:
        speaking = asyncio.create_task(
            _send(socket, stream, pace) if form is None else _send_encoded(socket, stream, pace, form)
        )
        with suppress(ConnectionClosed):
            while True:
                received.add(parse_message(str(await socket.recv())), stream)
        received.ended = f"{socket.close_code} {socket.close_reason}"
        if not speaking.done():
            received.trouble.append(f"closed while it spoke: {received.ended}")
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    if received.ended != f"1000 {END_OF_INPUT}":
        received.trouble.append(f"ended with {received.ended}")
    received.ends(stream)
    return received


async def _send(socket: ClientConnection, stream: Stream, pace: float) -> None:
    begun, held, dice = time.monotonic(), b"", random.Random(1)
    for start in range(0, stream.length, spoken.CHUNK):
        await asyncio.sleep(begun + start / RATE / pace - time.monotonic())
        pcm = held + spoken.audio(start, min(start + spoken.CHUNK, stream.length))
        cut = len(pcm) - dice.randrange(3)  # a message may end within a sample
        await socket.send(pcm[:cut])
        held = pcm[cut:]
    await socket.send(held)
    stream.is_ended = True
    await socket.send(EOS)


@cache
def _recorded(length: int, form: Form) -> bytes:
    return encoded(spoken.audio(0, length), form)


async def _send_encoded(socket: ClientConnection, stream: Stream, pace: float, form: Form) -> None:
    """Send like `_send`, with messages that may end anywhere within a packet."""
    data, dice = _recorded(stream.length, form), random.Random(1)
    begun, sent = time.monotonic(), 0
    while sent < len(data):
        await asyncio.sleep(begun + sent / len(data) * stream.length / RATE / pace - time.monotonic())
        stop = sent + dice.randrange(1, 2 * len(data) * spoken.CHUNK // stream.length)
        await socket.send(data[sent:stop])
        sent = stop
    stream.is_ended = True
    await socket.send(EOS)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run: what each client received, and the upstream's record of its stream."""

    received: list[Received]
    streams: list[Stream]
    seconds: float

    @property
    def breaks(self) -> Counter[str]:
        return sum((stream.breaks for stream in self.streams), Counter())

    @property
    def lost_samples(self) -> int:
        return sum(stream.lost for stream in self.streams)

    def count(self, of: Callable[[Received], int]) -> int:
        return sum(map(of, self.received))

    @property
    def trouble(self) -> list[str]:
        """All errors; empty if no word was lost."""
        found = [
            f"stream {number}: {text}" for number, received in enumerate(self.received) for text in received.trouble
        ]
        for number, stream in enumerate(self.streams):
            if stream.lost:
                found.append(f"stream {number}: no connection received {stream.lost} samples")
            if stream.displaced:
                found.append(f"stream {number}: {stream.displaced} messages do not fit their start_ts")
        return found

    @property
    def cut(self) -> tuple[int, int]:
        """The number of words in finals of which the connection received only a part: at clients, and elsewhere.

        A server whose call is cancelled may take that for the end of its input for a moment. Then it sends a final with
        the current word, which no client receives.
        """
        received = self.count(lambda received: received.cut)
        return received, sum(len(stream.cut_by) for stream in self.streams) - received

    def worst(self, kind: str | None = None) -> float:
        times = [(k, t) for stream in self.streams for k, t in stream.worst.items()]
        return max((t for k, t in times if kind in (None, k)), default=0.0)


class Crowd:
    """The streams of one run, and the upstream that breaks them."""

    def __init__(
        self, streams: int, seconds: float, kinds: tuple[str, ...] = (), every: float = 3.5, seed: int = 1
    ) -> None:
        self.kinds = kinds
        length = int(seconds / spoken.SECONDS) * spoken.UTTERANCE  # whole utterances
        self.streams = {
            f"{seed}-{number}": Stream(length, faults(kinds, every, random.Random(f"{seed}/{number}")))
            if kinds
            else Stream(length)
            for number in range(streams)
        }
        if READS_NO_MORE.intersection(kinds):
            for stream in self.streams.values():
                stream.may_miss = spoken.UTTERANCE - spoken.STRIDE - spoken.WORD
        self.upstream = Upstream(self.streams)

    async def talk(self, url: str, pace: float, form: Form | None = None) -> Result:
        if form is not None:  # encode before the run: meanwhile the upstream could not answer
            _ = {_recorded(stream.length, form) for stream in self.streams.values()}
        begun = time.monotonic()
        received = await asyncio.gather(
            *(speak(url, name, stream, pace, form) for name, stream in self.streams.items())
        )
        return Result(received, list(self.streams.values()), time.monotonic() - begun)
