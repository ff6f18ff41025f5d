"""No input lost when an SDK breaks: many attempts that look like one stream.

`Resumable` is a start function like any other: an iterator of input goes in, an iterator of responses comes out. Behind
it stand as many attempts as it takes, one after the other, each a connection of the SDK's of its own.

    the feed --> tap --> ring of input that may be needed again
                  |        ^ settled: a response covers it, nobody will ask for it again
                  v        v
         this attempt's own iterator over the ring --> the SDK

Positions are absolute: bytes of input since the stream's first. A response *settles* the input up to a position: what
came before it has been answered for good. An attempt begins at the settled position, reads the ring up to its end, and
from there on takes from the feed, through the ring. When it breaks, the next one does the same.

Who runs where. The worker runs `__call__`: it iterates the responses, settles, and starts the next attempt. The
attempt's iterator is run by whatever thread the SDK gives it. A broken attempt's thread may still wait in the feed,
which cannot be interrupted. Only that thread pulls then. What it gets it puts into the ring, where the next attempt
waits for it; only afterwards it finds that its own attempt is over. So an old attempt never takes input away.

Three more ways to end an attempt use the same mechanism:

- *Rotation* (`attempt.py`): near its lifetime the iterator ends, at a quiet moment if there is one. The SDK gives the
  responses that are still due, and the next attempt begins where this one's input ended. No two connections are open
  at once.
- *Doubt*: an end that looks good is not believed at once while much speech was not answered.
- *Watchdog* (`watchdog.py`): an attempt that was given speech and does not answer is aborted.

Guaranteed: every byte of input is given to an attempt, in order and without gaps; a later attempt is given again
exactly what was not settled. Once more than `room` waits to be settled nothing more is taken from the feed: "given"
may mean no more than that it lies in a socket's buffer, which holds minutes of speech.

Not guaranteed: an answer to silence, for which nobody waits; and an answer to input that one attempt had for `hold`
seconds without settling it, because the wait must end: perhaps it was music. Such input is evicted for lack of room,
and is lost if the attempt breaks then; `statistics()` counts that.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic

from syncbridge.errors import Stuck
from syncbridge.resumable.attempt import LiveAttempt
from syncbridge.resumable.rules import Resumption
from syncbridge.resumable.statistics import Counts, ResumeStatistics
from syncbridge.resumable.tap import Tap
from syncbridge.start import started
from syncbridge.types import Attempt, Out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Resumable", "ResumeStatistics", "Resumption"]


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
        self._attempt: LiveAttempt | None = None
        self._aborted = threading.Event()
        self._counts = Counts()

    def abort(self) -> None:
        """End the attempt and all that would follow. Thread-safe, idempotent, never waits."""
        self._aborted.set()
        attempt = self._attempt
        if attempt is not None and attempt.abort is not None:
            attempt.abort()

    def statistics(self) -> ResumeStatistics:
        """Return a snapshot. Thread-safe, never waits."""
        return self._counts.snapshot(self._attempt.position if self._attempt else 0)

    def __call__(self, feed: Iterator[bytes]) -> Iterator[Out]:
        """Yield the responses of one attempt after the other, each begun where the settled input ends."""
        tap, counts = Tap(feed, self._rules), self._counts
        failures_in_a_row = mute = 0
        doubted = False
        while True:
            attempt, settled_before = self._begin(tap, mute), counts.settled
            try:
                yield from self._responses(attempt, tap)
            except Exception as error:  # whatever an SDK raises; `again` knows after which a new try may succeed
                failures_in_a_row = failures_in_a_row + 1 if counts.settled == settled_before else 0
                pause = self._rules.pause(failures_in_a_row) if self._rules.again(error) else None
                if pause is None or self._aborted.wait(pause):
                    raise
                counts.breaks += 1
                mute, doubted = attempt.watchdog.mute, False
            else:
                failures_in_a_row = mute = 0
                if self._is_doubtful(tap) and (counts.settled > settled_before or not doubted):
                    doubted = True
                    counts.breaks += 1
                elif attempt.is_rotated:
                    doubted = False
                    self._settle(attempt.position, tap)  # its responses answer all that it was given
                else:
                    return
            finally:
                tap.end(attempt)
                counts.end(attempt.begun, attempt.position)

    def _begin(self, tap: Tap, mute: int) -> LiveAttempt:
        attempt = LiveAttempt(self._rules, tap, mute)
        tap.begin(attempt)
        self._counts.begin(attempt.position)
        self._attempt = attempt
        return attempt

    def _responses(self, attempt: LiveAttempt, tap: Tap) -> Iterator[Out]:
        if self._rules.lazy and self._counts.attempts > 1 and not tap.wait(attempt):
            return  # all is settled, and there will be no more input
        attempt.born = self._rules.clock()
        self._counts.connects += 1
        connection = self._connect(attempt.position)
        attempt.abort = connection.abort
        if self._aborted.is_set() and connection.abort is not None:
            connection.abort()  # abort() came before there was anything to abort
        responses = started(connection.start, attempt.feed())
        try:
            for response in responses:
                attempt.answered()
                settled = self._rules.settled(response)
                if settled is not None:
                    self._settle(min(settled, attempt.position), tap)
                yield response
        finally:
            getattr(responses, "close", lambda: None)()
        if attempt.is_stuck:
            raise Stuck(f"no answer to speech for {self._rules.silence:g} s")

    def _is_doubtful(self, tap: Tap) -> bool:
        tail = self._rules.tail
        return tail is not None and not self._aborted.is_set() and tap.unsettled_speech() > tail

    def _settle(self, position: int, tap: Tap) -> None:
        self._counts.settled = max(self._counts.settled, position - position % self._rules.unit)
        tap.settle(self._counts.settled)
