"""Not one item lost when an SDK breaks: many attempts that look like one.

`Resumable` is a start function like any other: an iterator of input goes in, an iterator of responses comes out. Behind
it stand as many attempts as it takes, one after the other, each a connection of the SDK's of its own.

    the feed --> tap --> ring of input that may be needed again
                  |        ^ settled: a response covers it, nobody will ask for it again
                  v        v
         this attempt's own iterator over the ring --> the SDK

Positions are absolute: units of input (bytes, say) since the stream's first. A response *settles* the input up to a
position: what came before it has been answered for good. An attempt begins at the settled position, reads the ring up
to its end, and from there on takes from the feed, through the ring. When it breaks, the next one does the same.

Who runs where. The worker runs `__call__`: it iterates the responses, settles, and starts the next attempt. The
attempt's iterator is run by whatever thread the SDK gives it. A broken attempt's thread may still wait in the feed,
which cannot be interrupted. It is the only one that pulls then; what it gets it puts into the ring, where the next
attempt waits for it, and only then it finds that its own attempt is over. So an old attempt never steals input.

Two more ways to end an attempt use the same mechanism:

- *Rotation*: near its lifetime the iterator ends, at a quiet moment if there is one. The SDK says its last words, and
  the next attempt begins where this one's input ended. No two connections are open at once.
- *Watchdog*: the iterator sees input that should be answered, and since when it was not. It aborts the attempt.

Guaranteed: every unit of input is given to an attempt, in order and without gaps; a later attempt is given again
exactly what was not settled. What is not: an answer to input that had been given and was forgotten, because more than
`room` of it waited to be settled, when the attempt broke that had been given it. `statistics()` counts it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from bridge.types import Attempt, Out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUIET_SHARE = 0.1  # of the lifetime, at its end, in which a quiet moment is waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption(Generic[Out]):
    """What makes input resumable. Positions and sizes are in bytes, times in seconds.

    `settled` tells up to which position a response settles the input, None if it does not. `again` tells whether to
    try again after an error. `pause` gives the wait before the next try, by the number of attempts in a row that
    settled nothing; None gives up. `quiet` and `speech` judge a chunk: whether it is a good place to cut, and whether
    it deserves an answer.
    """

    settled: Callable[[Out], int | None]
    again: Callable[[Exception], bool]
    pause: Callable[[int], float | None]
    room: int
    lifetime: float | None = None
    quiet: Callable[[bytes], bool] = lambda _chunk: True
    silence: float | None = None
    speech: Callable[[bytes], bool] = lambda _chunk: True
    replay_rate: float | None = None  # bytes a second at which input is given again; None: as fast as it is taken
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeStatistics:
    """A resumable stream at one moment, in bytes and in attempts."""

    attempts: int
    breaks: int  # attempts that did not end as they should
    given: int  # input given to attempts, each byte counted once
    settled: int
    replayed: int  # input given again
    forgotten: int  # input that was given, not settled, and could not be given again when its attempt broke


class Ring:
    """Input that may be needed again: a stretch of it, from `start` to `end`, both absolute positions."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self._chunks: deque[bytes] = deque()  # whole, except for the first: `start` may lie within it
        self._skip = 0

    def append(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self.end += len(chunk)

    def release(self, position: int) -> None:
        """Let go of everything before a position."""
        self.start, ahead = max(self.start, min(position, self.end)), self.start - self._skip
        while self._chunks and ahead + len(self._chunks[0]) <= self.start:
            ahead += len(self._chunks.popleft())
        self._skip = self.start - ahead

    def read(self, position: int) -> bytes:
        """Return what begins at a position, to the end of its chunk. Raises IndexError for what is not there."""
        if position < self.start:
            raise IndexError(f"{position} was released: the ring begins at {self.start}")
        chunk_end = self.end
        for chunk in reversed(self._chunks):  # live input is the last of them, so it is found at once
            if position >= chunk_end - len(chunk):
                return chunk[position - chunk_end :]
            chunk_end -= len(chunk)
        raise IndexError(f"{position} has not come yet: the ring ends at {self.end}")


class _Tap:
    """The feed's end, shared by all attempts: one of them pulls, the others wait for what it gets."""

    def __init__(self, feed: Iterator[bytes], room: int) -> None:
        self.ring = Ring()
        self._feed = feed
        self._room = room
        self._ended = False  # the feed, for good
        self._pulling = False
        self._reader: _Try | None = None
        self._changed = threading.Condition()

    def begin(self, attempt: _Try) -> None:
        """Make this attempt the one that counts, and put it where the settled input ends."""
        with self._changed:
            attempt.begun = attempt.position = self.ring.start
            attempt.live_from = self.ring.end
            self._reader = attempt

    def next(self, attempt: _Try) -> bytes | None:
        """Return what comes next for an attempt, waiting for it; None when the attempt or the feed is over."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        attempt.over.is_set() or self.ring.end > attempt.position or self._ended or not self._pulling
                    )
                )
                if attempt.over.is_set():
                    return None
                if self.ring.end > attempt.position:
                    return self.ring.read(attempt.position)
                if self._ended:
                    return None
                self._pulling = True
            self._pull()

    def _pull(self) -> None:
        chunk = next(self._feed, None)  # may wait for ever; never under the lock
        with self._changed:
            self._pulling = False
            if chunk is None:
                self._ended = True
            else:
                self.ring.append(chunk)
                # Too much of it waits to be settled. What goes has been given at least, to the attempt that counts.
                given = self._reader.position if self._reader else 0
                self.ring.release(min(self.ring.end - self._room, given))
            self._changed.notify_all()

    def settle(self, position: int) -> None:
        with self._changed:
            self.ring.release(position)

    def end(self, attempt: _Try) -> None:
        """End an attempt's wait, for good."""
        with self._changed:
            attempt.over.set()
            self._changed.notify_all()


class _Try:
    """One attempt: its connection, and its own iterator over the ring."""

    def __init__(self, rules: Resumption[Out], tap: _Tap) -> None:
        self.begun = 0  # from here on it is given input
        self.position = 0  # up to here it was
        self.live_from = 0  # what comes before is given again
        self.over = threading.Event()
        self.rotated = False
        self.stuck = False
        self.abort: Callable[[], object] | None = None
        self._rules = rules
        self._tap = tap
        self._born = rules.clock()
        self._unanswered: float | None = None  # since when speech waits for an answer

    def feed(self) -> Iterator[bytes]:
        while not self.rotated and (chunk := self._tap.next(self)) is not None:
            if self._rules.replay_rate is not None and self.position < self.live_from:
                self.over.wait(len(chunk) / self._rules.replay_rate)
            self.position += len(chunk)
            self._watch(chunk)
            yield chunk

    def answered(self) -> None:
        self._unanswered = None

    def _watch(self, chunk: bytes) -> None:
        rules, now = self._rules, self._rules.clock()
        if rules.lifetime is not None:
            left = rules.lifetime - (now - self._born)
            self.rotated = left <= 0 or (left <= rules.lifetime * QUIET_SHARE and rules.quiet(chunk))
        if rules.silence is not None and rules.speech(chunk):
            self._unanswered = now if self._unanswered is None else self._unanswered
            if now - self._unanswered >= rules.silence and not self.stuck:
                self.stuck = True
                if self.abort is not None:
                    self.abort()


class Stuck(Exception):
    """An attempt was given speech for long, and did not answer."""


class Resumable(Generic[Out]):
    """A start function that outlives its SDK's connections.

    `connect(position)` makes an attempt whose input begins at that position. It may raise like the attempt itself.

        resumable = Resumable(connect, Resumption(settled=..., again=..., pause=..., room=2**21))
        async with Bridge(resumable, abort=resumable.abort) as bridge:
            ...

    Raises the last attempt's error when `again` or `pause` says so. To be called once.
    """

    def __init__(self, connect: Callable[[int], Attempt[bytes, Out]], rules: Resumption[Out]) -> None:
        self._connect = connect
        self._rules = rules
        self._attempt: _Try | None = None
        self._aborted = threading.Event()
        self._attempts = self._breaks = 0
        self._given = self._settled = self._replayed = self._forgotten = 0

    def abort(self) -> None:
        """End the attempt and all that would follow. Thread-safe, idempotent, never waits."""
        self._aborted.set()
        attempt = self._attempt
        if attempt is not None and attempt.abort is not None:
            attempt.abort()

    def statistics(self) -> ResumeStatistics:
        """Return a snapshot. Thread-safe, never waits."""
        return ResumeStatistics(
            attempts=self._attempts,
            breaks=self._breaks,
            given=max(self._given, self._attempt.position if self._attempt else 0),
            settled=self._settled,
            replayed=self._replayed,
            forgotten=self._forgotten,
        )

    def __call__(self, feed: Iterator[bytes]) -> Iterator[Out]:
        """Yield the responses of one attempt after the other, each begun where the settled input ends."""
        tap = _Tap(feed, self._rules.room)
        fruitless = 0
        while True:
            attempt, settled_before = self._begin(tap), self._settled
            try:
                yield from self._responses(attempt, tap)
            except Exception as error:  # whatever an SDK raises; `again` knows which of it will pass
                fruitless = fruitless + 1 if self._settled == settled_before else 0
                pause = self._rules.pause(fruitless) if self._rules.again(error) else None
                if pause is None or self._aborted.wait(pause):
                    raise
                self._breaks += 1
            else:
                if not attempt.rotated:
                    return
                fruitless = 0
                self._settle(attempt.position, tap)  # its last words answer all that it was given
            finally:
                tap.end(attempt)
                self._replayed += min(self._given, attempt.position) - attempt.begun
                self._given = max(self._given, attempt.position)

    def _begin(self, tap: _Tap) -> _Try:
        attempt = _Try(self._rules, tap)
        tap.begin(attempt)
        self._forgotten += attempt.position - self._settled
        self._settled = attempt.position
        self._attempts += 1
        self._attempt = attempt
        return attempt

    def _responses(self, attempt: _Try, tap: _Tap) -> Iterator[Out]:
        connection = self._connect(attempt.position)
        attempt.abort = connection.abort
        if self._aborted.is_set() and connection.abort is not None:
            connection.abort()  # abort() came before there was anything to abort
        responses = connection.start(attempt.feed())
        try:
            for response in responses:
                attempt.answered()
                settled = self._rules.settled(response)
                if settled is not None:
                    self._settle(min(settled, attempt.position), tap)
                yield response
        finally:
            getattr(responses, "close", lambda: None)()
        if attempt.stuck:
            raise Stuck(f"no answer for {self._rules.silence:g} s of speech")

    def _settle(self, position: int, tap: _Tap) -> None:
        self._settled = max(self._settled, position)
        tap.settle(self._settled)
