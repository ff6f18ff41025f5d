"""A stream that survives a broken SDK without losing input: many attempts that look like one stream.

`Resumable` is a start function like any other: it takes an iterator of input and returns an iterator of responses. It
makes as many attempts as needed, one after the other. Each attempt is a connection of the SDK.

    the feed --> tap --> ring, the replay buffer of input
                  |        ^ settled input is released: a response covers it, and it is never needed again
                  v        v
         this attempt's own iterator over the ring --> the SDK

Positions are absolute: bytes since the beginning of the stream. A response *settles* the input up to a position: all
input before it has been answered for good. An attempt begins at the settled position and reads the ring up to its end.
From there on it pulls the feed, and what it gets goes through the ring. When the attempt breaks, the next one does the
same.

Who runs where. The worker runs `__call__`: it iterates the responses, settles input, and starts the next attempt. The
attempt's iterator is run by whatever thread the SDK uses for it. A broken attempt's thread may still wait in the feed,
and that wait cannot be interrupted. In that case only this thread pulls the feed. It puts what it gets into the ring,
where the next attempt waits for it, and only then notices that its own attempt is over. So an old attempt never takes
input away. The timer, one thread for all streams (`timer.py`), checks the time limits, whatever the SDK's threads are
blocked in.

Six more ways to end an attempt use the same mechanism:

- *Rotation* (`attempt.py`): near the end of the attempt's lifetime its iterator ends, in a pause of the speech if there
  is one. The SDK gives the responses that are still due, and the next attempt begins where this one's input ended.
- *Replacement*: where pauses cannot be detected, the attempt ends at the first final near the end of its lifetime. An
  attempt whose `is_to_be_replaced` returns True ends at its next final, at any time, for example because a better
  service is available again. Input that it took after that final is given to the next attempt, and its later responses
  are ignored. Either way no word is cut, and no two connections are open at once.
- *Doubt*: if an attempt ends without an error, but much speech was not answered, that end is not accepted at once: the
  rest is given to another attempt, once.
- *Early end*: responses that end before the input did are an error, `Early`.
- *Linger*: if all input is settled and has ended, but the attempt does not end by itself, it is aborted after `linger`
  seconds. That counts as a success.
- *Watchdog* (`watchdog.py`): an attempt is aborted if it does not answer speech, does not ask for more input, or does
  not give its last responses. Its error is `Stuck`, whatever its SDK raises when it is aborted. If it does not even
  stop, that is reported (`on_stuck`); nothing more can be done.

Guaranteed: every byte of input is given to an attempt, in order and without gaps, and a later attempt is given exactly
the input that was not settled. Once more than `room` bytes are unsettled, no more is taken from the feed: that the SDK
took input may only mean that it lies in a socket's buffer, which holds minutes of speech. With `silence`, `answer` and
an `abort` that works, no stream hangs: each is over `answer` seconds after the end of its input, or after the last
response that settled something.

Not guaranteed: an answer to silence, for which nothing waits; and an answer to input that one attempt had for `hold`
seconds without settling it. The wait has to end, for perhaps the input was music. Such input is evicted when there is
no room, and is lost if the attempt breaks then; `statistics()` counts it. And the timer cannot end an attempt that
is connecting: give the SDK a timeout for that.
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

    `connect(position)` makes an attempt whose input begins at that position. An error that it raises is treated like
    one of the attempt.

        resumable = Resumable(connect, Resumption(settled=..., again=..., pause=..., room=2**21))
        async with Bridge(resumable, abort=resumable.abort) as bridge:
            ...

    It raises the last attempt's error if `again` or `pause` allows no further attempt. It can be called once.
    """

    def __init__(self, connect: Callable[[int], Attempt[bytes, Out]], rules: Resumption[Out]) -> None:
        self._connect = connect
        self._rules = rules
        self._attempt: LiveAttempt | None = None
        self._report: Callable[[str], object] = lambda _why: None
        self._aborted = threading.Event()
        self._counts = Counts()
        self._input_ended_at = math.inf
        self._settled_at = 0.0

    def abort(self) -> None:
        """Abort the current attempt, and make no more. Thread-safe, idempotent, never waits."""
        self._aborted.set()
        attempt = self._attempt
        if attempt is not None:
            attempt.abort()

    def input_ended(self) -> None:
        """Note that the caller has ended the input. Thread-safe, never waits.

        The stream itself notices that only when an attempt has taken all input, and during an outage none does.
        """
        self._input_ended_at = min(self._input_ended_at, self._rules.timer.time())

    def on_stuck(self, report: Callable[[str], object]) -> None:
        """Have `report` called, from another thread, if an attempt was aborted and does not stop.

        It is called with the reason for the abort: an empty text if the attempt had answered everything, but not ended.
        """
        self._report = report

    def statistics(self) -> ResumeStatistics:
        """Return a snapshot. Thread-safe, never waits."""
        return self._counts.snapshot(self._attempt.position if self._attempt else 0)

    def __call__(self, feed: Iterator[bytes]) -> Iterator[Out]:
        """Yield the responses of one attempt after the other. Each attempt begins where the settled input ends."""
        tap, counts = Tap(feed, self._rules), self._counts
        failures_in_a_row = mute = 0
        doubted = -1  # the position of the last end that was not accepted
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
                    self._settle(attempt.position, tap)  # it gave all its responses, so all its input is answered
                else:
                    return
            finally:
                attempt.end()
                counts.end(attempt.begun, attempt.position)

    def _tries_again(self, error: Exception, failures_in_a_row: int, last_words_due: float, tap: Tap) -> bool:
        """Wait before the next attempt, and return True; raise the error if there is to be no further attempt.

        Returns False instead of raising if nothing is missing: all input was taken, and at most `tail` of its speech
        is unsettled.
        """
        if not self._rules.again(error):
            raise error
        pause = self._rules.pause(failures_in_a_row)
        if pause is not None and not self._is_too_late(pause, failures_in_a_row, last_words_due):
            if self._aborted.wait(pause):
                raise error
            return True
        tail = self._rules.tail if self._counts.settled else None  # the only word of a stream may not be dropped
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
        attempt.report = self._report_stuck
        tap.begin(attempt)
        self._counts.begin(attempt.position)
        self._attempt = attempt
        return attempt

    def _responses(self, attempt: LiveAttempt, tap: Tap) -> Iterator[Out]:
        """Yield an attempt's responses. Raises if the attempt ends too early, whether or not its SDK raised."""
        if self._rules.lazy and self._counts.attempts > 1 and not tap.wait(attempt):
            return  # all input is settled, and there will be no more
        self._counts.connects += 1
        attempt.start_watch()
        try:
            yield from self._run(attempt, tap)
        except Exception as error:
            # After our abort, the SDK's own error is only a consequence of it.
            if attempt.is_aborted_as_complete:
                return
            if attempt.is_stuck:
                raise Stuck(attempt.watchdog.why) from error
            raise
        if attempt.is_stuck:
            raise Stuck(attempt.watchdog.why)
        if not (attempt.has_ended or attempt.is_rotated or attempt.is_replaced or self._aborted.is_set()):
            raise Early("the SDK's responses ended before its input did")

    def _run(self, attempt: LiveAttempt, tap: Tap) -> Iterator[Out]:
        connection = self._connect(attempt.position)
        attempt.attach(connection)
        if self._is_to_be_aborted(attempt):  # an abort came when there was no connection yet
            attempt.abort()
            return
        responses = started(connection.start, attempt.feed())
        try:
            if self._is_to_be_aborted(attempt):  # an abort came while `start` connected, and may have found nothing
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

    def _report_stuck(self, why: str) -> None:
        self._report(why)  # read only now, as `on_stuck` may be called after the attempt began

    def _is_to_be_aborted(self, attempt: LiveAttempt) -> bool:
        return self._aborted.is_set() or attempt.is_stuck or attempt.is_aborted_as_complete

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
