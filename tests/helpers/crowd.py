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
TOLERANCE = 0.05  # seconds that a timestamp may be off
READS_NO_MORE = {"blocked send", "stalls"}  # but is still connected


@dataclass(slots=True)
class Heard:
    """What one client received."""

    words: int = 0  # in order, without a gap: the number of the next one
    missing: int = 0
    doubled: int = 0
    off: int = 0  # words whose times are not the truth's, or run backwards
    untrue: int = 0  # the first of these, and words that a connection was given a part of
    cut: int = 0  # finals of such words
    ended: str = "not at all"
    trouble: list[str] = field(default_factory=list)
    _last: float = 0.0

    def hear(self, message: Message | None, stream: Stream) -> None:
        if not isinstance(message, Partial | Final) or not message.words:
            return
        for element in message.words:
            number, connection = map(int, element.value.split("@"))
            stream.is_answered(connection)
            if isinstance(message, Final):
                self.cut += (number, connection) in stream.cut_by
                self._word(number, element.ts or 0.0, element.end_ts or 0.0, stream)

    def ends(self, stream: Stream) -> None:
        """Note that no more will come."""
        if (rest := spoken.word_at(stream.length) - self.words) > 0:
            self.missing += rest
            self.trouble.append(f"the last {rest} words are missing")

    def _word(self, number: int, ts: float, end_ts: float, stream: Stream) -> None:
        if number < self.words:
            self.doubled += 1
            self.trouble.append(f"word {number} came again, when {self.words} was due")
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
            self.trouble.append(f"word {number} is at {ts} to {end_ts}; it was said at {truth}; {self._last=}")
        self._last = end_ts


async def speak(url: str, name: str, stream: Stream, pace: float, form: Form | None = None) -> Heard:
    """Send a stream's audio at a multiple of real time, then EOS; return what came until the close.

    It is encoded in a form that gives the very samples back, or raw.
    """
    heard = Heard()
    kind = ContentType.raw() if form is None else ContentType.parse(form.media)
    query = StreamRequest(kind, {"metadata": name, "custom_vocabulary_id": name}).query()
    # No pings: while the service takes nothing more, it answers none, and they would close a healthy connection.
    async with connect(
        f"{url}{PATH}?{query}", compression=None, proxy=None, ping_interval=None, close_timeout=1
    ) as socket:
        speaking = asyncio.create_task(
            _send(socket, stream, pace) if form is None else _send_encoded(socket, stream, pace, form)
        )
        with suppress(ConnectionClosed):
            while True:
                heard.hear(parse_message(str(await socket.recv())), stream)
        heard.ended = f"{socket.close_code} {socket.close_reason}"
        if not speaking.done():
            heard.trouble.append(f"closed while it spoke: {heard.ended}")
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    if heard.ended != f"1000 {END_OF_INPUT}":
        heard.trouble.append(f"ended with {heard.ended}")
    heard.ends(stream)
    return heard


async def _send(socket: ClientConnection, stream: Stream, pace: float) -> None:
    begun, held, dice = time.monotonic(), b"", random.Random(1)
    for start in range(0, stream.length, spoken.CHUNK):
        await asyncio.sleep(begun + start / RATE / pace - time.monotonic())
        pcm = held + spoken.audio(start, min(start + spoken.CHUNK, stream.length))
        cut = len(pcm) - dice.randrange(3)  # a message need not end where a sample does
        await socket.send(pcm[:cut])
        held = pcm[cut:]
    await socket.send(held)
    stream.is_ended = True
    await socket.send(EOS)


@cache
def _recorded(length: int, form: Form) -> bytes:
    return encoded(spoken.audio(0, length), form)


async def _send_encoded(socket: ClientConnection, stream: Stream, pace: float, form: Form) -> None:
    """Do as `_send` does, with messages that end anywhere in a packet."""
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
    """Of a run: what each client heard, and what the upstream knows of its stream."""

    heard: list[Heard]
    streams: list[Stream]
    seconds: float

    @property
    def breaks(self) -> Counter[str]:
        return sum((stream.breaks for stream in self.streams), Counter())

    @property
    def lost_samples(self) -> int:
        return sum(stream.lost for stream in self.streams)

    def count(self, of: Callable[[Heard], int]) -> int:
        return sum(map(of, self.heard))

    @property
    def trouble(self) -> list[str]:
        """Everything that is wrong; empty when no word was lost."""
        told = [f"stream {number}: {text}" for number, heard in enumerate(self.heard) for text in heard.trouble]
        for number, stream in enumerate(self.streams):
            if stream.lost:
                told.append(f"stream {number}: {stream.lost} samples were given to nobody")
            if stream.displaced:
                told.append(f"stream {number}: {stream.displaced} messages were not what start_ts said")
        return told

    @property
    def cut(self) -> tuple[int, int]:
        """Words of which a connection heard only a part, and said a final: those that clients heard, and the others.

        A server whose call is called off, as it dies or as its client has left, may take that for the end of its input
        for a moment. Then it says a final for the word that it is in the middle of, which reaches nobody.
        """
        heard = self.count(lambda heard: heard.cut)
        return heard, sum(len(stream.cut_by) for stream in self.streams) - heard

    def worst(self, kind: str | None = None) -> float:
        times = [(k, t) for stream in self.streams for k, t in stream.worst.items()]
        return max((t for k, t in times if kind in (None, k)), default=0.0)


class Crowd:
    """Streams of one run, and the upstream that will break them."""

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
        if form is not None:  # it takes a while, in which the upstream answers nobody
            _ = {_recorded(stream.length, form) for stream in self.streams.values()}
        begun = time.monotonic()
        heard = await asyncio.gather(*(speak(url, name, stream, pace, form) for name, stream in self.streams.items()))
        return Result(heard, list(self.streams.values()), time.monotonic() - begun)
