"""The state of a resumable stream that another process needs to continue it. Pure.

    audio       the audio that the client sent and that no final covers, from `begin` to `received`. It is replayed to a
                new upstream connection. Encoded audio cannot be decoded from its middle on, so all of it is kept
                (`is_whole`)
    finals      the finals that the client has not confirmed; the first of them has the number `confirmed`
    settled     the position up to which finals cover the audio. A final and the position that it settles are stored
                together, so that a process that continues the stream neither loses a word nor repeats one

Positions are in bytes of the client's audio since the stream began; `settled` is in bytes of the decoded audio.

A journal reports with `has_stored` what it has stored. Audio that is not stored is not acknowledged to the client, and
finals that are not stored are not sent: see `acknowledgeable` and `deliverable`. Without a journal these two cover
everything.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncbridge import Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(eq=False)
class Record:
    """The record of one stream.

    Its audio is kept in multiples of `unit` bytes, and `room` bytes at most, because hours of silence may pass without
    a final. If `is_whole`, and there is more audio than that, the stream can no longer move to another process:
    `outgrown` is called.

    `about` is what the server needs to continue the stream, in a format of its own.
    """

    key: str = field(repr=False)
    about: str = field(repr=False)
    room: int
    unit: int = 1
    is_whole: bool = False
    owner: str = ""  # of the API key that began it; the stream can be resumed only with a key of the same owner
    received: int = 0  # bytes
    settled: int = 0
    confirmed: int = 0  # finals
    has_ended: bool = False  # the client has ended its input
    verdict: str = ""  # how the stream ended, in a format of the server; empty while it goes on
    is_complete: bool = False  # its previous owner stored all of it, so no client has received more finals
    finals: deque[str] = field(default_factory=deque, repr=False)
    changed: Callable[[], object] = lambda: None  # called when there is more to store
    stored: Callable[[], object] = lambda: None  # called when a journal has stored more
    outgrown: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.audio = Ring(self.unit)
        self.is_kept = False  # a journal keeps it up to date
        self.is_stored = True  # a journal has it, or there is none; until then its client must not know its key
        self.is_connected = False  # its client is connected to this process
        self._acknowledgeable = self.received
        self._deliverable = self.total

    @property
    def begin(self) -> int:
        """The position from which the audio is kept."""
        return self.audio.start

    @property
    def total(self) -> int:
        """The number of finals so far."""
        return self.confirmed + len(self.finals)

    @property
    def acknowledgeable(self) -> int:
        """The position up to which audio may be acknowledged to the client."""
        return self._acknowledgeable if self.is_kept else self.received

    @property
    def deliverable(self) -> int:
        """How many of the finals may be sent to the client."""
        return self._deliverable if self.is_kept else self.total

    def restore(self, begin: int, audio: list[bytes]) -> None:
        """Set the audio from a position on, as a journal had stored it."""
        self.audio.start = self.audio.end = begin
        for chunk in audio:
            self.audio.append(chunk)
        self._acknowledgeable, self._deliverable = self.received, self.total

    def receive(self, audio: bytes) -> None:
        """Note audio from the client."""
        self.received += len(audio)
        if self.is_kept:
            self.audio.append(audio)
            if not self.is_whole:
                self.audio.release(max(self.settled, self.audio.end - self.room))
            elif self.audio.end > self.room:
                self.outgrown()
                return
            self.changed()

    def add(self, final: str) -> None:
        """Note a final. If it settles audio, the caller must call `settle` before it yields to the event loop."""
        self.finals.append(final)
        self.changed()

    def settle(self, position: int) -> None:
        """Note that the finals so far cover the audio before a position."""
        if position > self.settled:
            self.settled = position
            if not self.is_whole:
                self.audio.release(position)
            self.changed()

    def confirm(self, finals: int) -> Iterator[str]:
        """Note how many finals the client has; yield those that are no longer kept."""
        while self.finals and self.confirmed < finals:
            self.confirmed += 1
            yield self.finals.popleft()
        self.changed()

    def recount(self, finals: int) -> None:
        """Continue the numbering of a client that has more finals than were stored.

        Those finals are transcribed again, and sent with new numbers.
        """
        self.finals.clear()
        self.confirmed = finals
        self._deliverable = max(self._deliverable, finals)

    def end(self, *, verdict: str = "") -> None:
        """Note that the client has ended its input, or how the stream ended."""
        self.has_ended = self.has_ended or not verdict
        self.verdict = self.verdict or verdict
        self.changed()

    def has_stored(self, received: int, total: int) -> None:
        """Note what a journal has stored: audio up to a position, and this number of finals."""
        self._acknowledgeable = max(self._acknowledgeable, received)
        self._deliverable = max(self._deliverable, total)
        self.is_stored = True
        self.stored()

    def deliver_unstored(self) -> int:
        """Let finals, and the key, be sent to the client though they are not stored. Returns how many finals it is."""
        more = self.total - self._deliverable
        self._deliverable = self.total
        if more or not self.is_stored:
            self.is_stored = True
            self.stored()
        return more
