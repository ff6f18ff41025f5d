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
waits for it; only afterwards it finds that its own attempt is over. So an old attempt never takes input away. The
timer, one thread for all streams (`timer.py`), looks at what is due, whatever the SDK's threads are blocked in.

Six more ways to end an attempt use the same mechanism:

- *Rotation* (`attempt.py`): near its lifetime the iterator ends, at a quiet moment if there is one. The SDK gives the
  responses that are still due, and the next attempt begins where this one's input ended.
- *Replacement*: where quiet moments cannot be told, the attempt ends at the first final near its lifetime. So does one
  that says `is_to_be_replaced`, at any time: a better connection may be had. What it was
  given after that is given to the next, and what it says after that is not heard. Either way no word is cut, and no two
  connections are open at once.
- *Doubt*: an end that looks good is not believed at once while much speech was not answered: the rest is given to
  another attempt, once.
- *Early end*: responses that end before the input did are no success, but an error, `Early`.
- *Hanging up*: an attempt of which all is settled, and whose input has ended, but which does not end by itself, is
  aborted after `linger` seconds. That is a good end.
- *Watchdog* (`watchdog.py`): an attempt that does not answer speech, does not come back for input, or whose last words
  do not come, is aborted. Its error is `Stuck`, whatever its SDK makes of the abort. If it does not even stop, nobody
  can do more than tell (`on_stuck`).

Guaranteed: every byte of input is given to an attempt, in order and without gaps; a later attempt is given again
exactly what was not settled. Once more than `room` waits to be settled nothing more is taken from the feed: "given"
may mean no more than that it lies in a socket's buffer, which holds minutes of speech. With `silence`, `answer` and an
`abort` that works, no stream hangs: each is over `answer` seconds after the end of its input, or after the last
response that settled something.

Not guaranteed: an answer to silence, for which nobody waits; and an answer to input that one attempt had for `hold`
seconds without settling it, because the wait must end: perhaps it was music. Such input is evicted for lack of room,
and is lost if the attempt breaks then; `statistics()` counts that. Nor can the timer end an attempt that connects:
give the SDK a timeout for that.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Generic

from syncbridge.errors import Early, Stuck
from syncbridge.resumable.attempt import LiveAttempt
from syncbridge.resumable.rules import Resumption
from syncbridge.resumable.statistics import Counts, ResumeStatistics
from syncbridge.resumable.tap import Tap
from syncbridge.start import close, started
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
        self._tell: Callable[[str], object] = lambda _why: None
        self._aborted = threading.Event()
        self._counts = Counts()
        self._input_ended_at = math.inf
        self._settled_at = 0.0

    def abort(self) -> None:
        """End the attempt and all that would follow. Thread-safe, idempotent, never waits."""
        self._aborted.set()
        attempt = self._attempt
        if attempt is not None:
            attempt.abort()

    def input_ended(self) -> None:
        """Note that the caller has ended the input. Thread-safe, never waits.

        By itself the stream learns that only when an attempt has taken all input, and during an outage none does.
        """
        self._input_ended_at = min(self._input_ended_at, self._rules.timer.time())

    def on_stuck(self, tell: Callable[[str], object]) -> None:
        """Have `tell` called, from another thread, if an attempt was aborted as it is stuck, and does not even stop.

        It is given why; an empty text if the attempt had answered all, and only its end is waited for.
        """
        self._tell = tell

    def statistics(self) -> ResumeStatistics:
        """Return a snapshot. Thread-safe, never waits."""
        return self._counts.snapshot(self._attempt.position if self._attempt else 0)

    def __call__(self, feed: Iterator[bytes]) -> Iterator[Out]:
        """Yield the responses of one attempt after the other, each begun where the settled input ends."""
        tap, counts = Tap(feed, self._rules), self._counts
        failures_in_a_row = mute = 0
        doubted = -1  # the position at which an end was doubted last
        last_words_due = math.inf
        while True:
            attempt, settled_before = self._begin(tap, mute, last_words_due), counts.settled
            try:
                yield from self._responses(attempt, tap)
            except Exception as error:  # noqa: BLE001 # whatever an SDK raises; `again` says after which to try again
                failures_in_a_row = failures_in_a_row + 1 if counts.settled == settled_before else 0
                last_words_due = attempt.watchdog.last_words_due if tap.has_ended else math.inf
                if not self._tries_again(error, failures_in_a_row, last_words_due, tap):
                    return
                counts.breaks += 1
                mute = attempt.watchdog.mute
            else:
                failures_in_a_row = mute = 0
                if attempt.is_replaced:
                    continue
                if attempt.position > doubted and self._is_doubtful(attempt, tap):
                    doubted = attempt.position
                    counts.breaks += 1
                elif attempt.is_rotated:
                    self._settle(attempt.position, tap)  # its responses answer all that it was given
                else:
                    return
            finally:
                attempt.end()
                counts.end(attempt.begun, attempt.position)

    def _tries_again(self, error: Exception, failures_in_a_row: int, last_words_due: float, tap: Tap) -> bool:
        """Wait before the next try. Returns False if all input was taken, and all its speech but a `tail` answered.

        Raises the error if there is to be no further try, and something is not answered.
        """
        if not self._rules.again(error):
            raise error
        pause = self._rules.pause(failures_in_a_row)
        if pause is not None and not self._is_too_late(pause, failures_in_a_row, last_words_due):
            if self._aborted.wait(pause):
                raise error
            return True
        tail = self._rules.tail if self._counts.settled else None  # of the only word, none is to spare
        if tap.has_ended and tap.unsettled_speech() <= (tail or 0):
            return False
        raise error

    def _is_too_late(self, pause: float, failures_in_a_row: int, last_words_due: float) -> bool:
        next_try = self._rules.timer.time() + pause
        if failures_in_a_row and self._rules.answer is not None:
            last_words_due = min(last_words_due, max(self._input_ended_at, self._settled_at) + self._rules.answer)
        return next_try >= last_words_due

    def _begin(self, tap: Tap, mute: int, last_words_due: float) -> LiveAttempt:
        attempt = LiveAttempt(self._rules, tap, mute, last_words_due)
        attempt.tell = self._is_stuck
        tap.begin(attempt)
        self._counts.begin(attempt.position)
        self._attempt = attempt
        return attempt

    def _responses(self, attempt: LiveAttempt, tap: Tap) -> Iterator[Out]:
        """Yield an attempt's responses. However it ends too soon, this raises."""
        if self._rules.lazy and self._counts.attempts > 1 and not tap.wait(attempt):
            return  # all is settled, and there will be no more input
        self._counts.connects += 1
        attempt.connects()
        try:
            yield from self._run(attempt, tap)
        except Exception as error:
            if attempt.is_hung_up_on:  # what its SDK makes of the abort is its own affair
                return
            if attempt.is_stuck:  # likewise
                raise Stuck(attempt.watchdog.why) from error
            raise
        if attempt.is_stuck:
            raise Stuck(attempt.watchdog.why)
        if not (attempt.has_ended or attempt.is_rotated or attempt.is_replaced or self._aborted.is_set()):
            raise Early("the SDK's responses ended before its input did")

    def _run(self, attempt: LiveAttempt, tap: Tap) -> Iterator[Out]:
        connection = self._connect(attempt.position)
        attempt.runs(connection)
        if self._is_to_be_aborted(attempt):  # before there was anything to abort
            attempt.abort()
            return
        responses = started(connection.start, attempt.feed())
        try:
            if self._is_to_be_aborted(attempt):  # while `start` connected, when abort may have found nothing
                attempt.abort()
            for response in responses:
                attempt.answered()
                self._settle_by(response, attempt, tap)
                attempt.is_delivering = True
                yield response
                attempt.is_delivering = False
                if attempt.is_replaced:
                    attempt.abort()
                    return
        finally:
            close(responses)

    def _is_stuck(self, why: str) -> None:
        self._tell(why)  # it may have been set since the attempt began

    def _is_to_be_aborted(self, attempt: LiveAttempt) -> bool:
        return self._aborted.is_set() or attempt.is_stuck or attempt.is_hung_up_on

    def _settle_by(self, response: Out, attempt: LiveAttempt, tap: Tap) -> None:
        position, before = self._rules.settled(response, attempt.begun), self._counts.settled
        if position is None:
            return
        self._settle(min(position, attempt.position), tap)
        if self._counts.settled > before:
            self._settled_at = self._rules.timer.time()
            attempt.settled()
            if attempt.may_be_replaced():
                attempt.is_replaced = True
                tap.end(attempt)

    def _is_doubtful(self, attempt: LiveAttempt, tap: Tap) -> bool:
        tail = self._rules.tail
        if tail is None or self._aborted.is_set():
            return False
        is_too_late = tap.has_ended and self._rules.timer.time() >= attempt.watchdog.last_words_due
        return not is_too_late and tap.unsettled_speech() > tail

    def _settle(self, position: int, tap: Tap) -> None:
        self._counts.settled = max(self._counts.settled, position - position % self._rules.unit)
        tap.settle(self._counts.settled)
