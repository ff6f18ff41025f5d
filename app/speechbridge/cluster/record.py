"""What must be known of a resumable stream, so that any process can go on with it. Pure.

    audio       what the client sent, and no final covers: from `begin` to `received`. A new upstream is given it again.
                What has to be decoded cannot begin in its middle: all of it is kept (`is_whole`)
    finals      what the client has not confirmed: the first of them is number `confirmed`
    settled     up to where finals cover the audio; each final stands beside the position that it settles, so that a
                process that goes on from here neither misses a word nor says one twice

Positions are bytes of the client's audio since the stream began; `settled`, of what it is decoded to.

A journal says with `has_stored` what it has. As long as something of the stream is not there, its client is not told
that the audio was received, and does not see the final: `told` and `shown`. Where no journal keeps the record, both are
all that there is.
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
    """One stream.

    Its audio is kept in multiples of `unit` bytes, and `room` bytes at most: what no final covers may be silence for
    hours. A stream of which more than that must be kept cannot be moved any more: `outgrown` is called.

    `about` is what the owner of the stream needs to go on, in a form that only it reads.
    """

    key: str = field(repr=False)
    about: str = field(repr=False)
    room: int
    unit: int = 1
    is_whole: bool = False
    owner: str = ""  # of the API key with which it began; only with a key of the same owner it can be resumed
    received: int = 0  # bytes
    settled: int = 0
    confirmed: int = 0  # finals
    has_ended: bool = False  # the client has ended its input
    verdict: str = ""  # how the stream ended, in a form that only its owner reads; empty while it goes on
    is_complete: bool = False  # whoever had the stream has stored all of it: no client has seen more finals
    finals: deque[str] = field(default_factory=deque, repr=False)
    changed: Callable[[], object] = lambda: None  # called when there is more to store
    stored: Callable[[], object] = lambda: None  # called when a journal has stored more
    outgrown: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.audio = Ring(self.unit)
        self.is_kept = False  # by a journal
        self.is_attended = False  # its client is connected
        self._told = self.received
        self._shown = self.total

    @property
    def begin(self) -> int:
        """The position from which the audio is kept."""
        return self.audio.start

    @property
    def total(self) -> int:
        """The finals so far."""
        return self.confirmed + len(self.finals)

    @property
    def told(self) -> int:
        """Up to where the client may be told that its audio was received."""
        return self._told if self.is_kept else self.received

    @property
    def shown(self) -> int:
        """How many finals the client may see."""
        return self._shown if self.is_kept else self.total

    def restore(self, begin: int, audio: list[bytes]) -> None:
        """Take the audio from a position on, as a journal had it."""
        self.audio.start = self.audio.end = begin
        for chunk in audio:
            self.audio.append(chunk)
        self._told, self._shown = self.received, self.total

    def receive(self, audio: bytes) -> None:
        """Note audio of the client."""
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
        """Note a final. `settle` follows before anything else can happen, if it settles audio."""
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
        """Note that the client has so many finals; give those that are dropped."""
        while self.finals and self.confirmed < finals:
            self.confirmed += 1
            yield self.finals.popleft()
        self.changed()

    def recount(self, finals: int) -> None:
        """Go on behind a client that has seen more finals than were stored: those come again, with new numbers."""
        self.finals.clear()
        self.confirmed = finals
        self._shown = max(self._shown, finals)

    def end(self, *, verdict: str = "") -> None:
        """Note that the client has ended its input, or how the stream ended."""
        self.has_ended = self.has_ended or not verdict
        self.verdict = self.verdict or verdict
        self.changed()

    def has_stored(self, received: int, total: int) -> None:
        """Note what a journal has: audio up to a position, and so many finals."""
        self._told, self._shown = max(self._told, received), max(self._shown, total)
        self.stored()

    def show(self) -> int:
        """Let the client see the finals that are not stored, as they cannot wait. Returns how many these are."""
        more = self.total - self._shown
        self._shown = self.total
        if more:
            self.stored()
        return more
