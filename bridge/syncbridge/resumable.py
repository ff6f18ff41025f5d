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

Three more ways to end an attempt use the same mechanism:

- *Rotation*: near its lifetime the iterator ends, at a quiet moment if there is one. The SDK says its last words, and
  the next attempt begins where this one's input ended. No two connections are open at once.
- *Doubt*: an end that looks good is not believed at once while much that should be answered was not.
- *Watchdog*: the iterator notes since when input was not answered. Once that is long, it looks for speech in it, and
  aborts the attempt if that has waited as long. Looking is dear next to all else here, and hardly ever needed.
  Perhaps there was nothing to answer (music is loud, too): from the third in a row on, each has twice the time.

Guaranteed: every unit of input is given to an attempt, in order and without gaps; a later attempt is given again
exactly what was not settled. Once more than `room` waits to be settled nothing more is taken from the feed: "given"
may mean no more than that it lies in a socket's buffer, which holds minutes of speech. What is not guaranteed: an
answer to silence, for which nobody waits, and to input that one attempt had for `hold` seconds without settling it, as
there must be an end: perhaps it was music. It is evicted, and missed if the attempt breaks then; `statistics()`
counts that.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from syncbridge.ring import Ring
from syncbridge.types import Attempt, Out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUIET_SHARE = 0.1  # of the lifetime, at its end, in which a quiet moment is waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption(Generic[Out]):
    """What makes input resumable. Positions and sizes are in bytes, times in seconds.

    `settled` tells up to which position a response settles the input, None if it does not. `again` tells whether to
    try again after an error. `pause` gives the wait before the next try, by the number of attempts in a row that
    settled nothing; None gives up. `quiet` judges a chunk, whether it is a good place to cut; `speech` a piece of the
    input, whether it deserves an answer.

    When `room` is full of what waits to be settled, more input is taken only as some is settled, or holds no speech, or
    was given `hold` seconds ago. An attempt begins at a multiple of `unit`. One that ends well, but with more than
    `tail` of speech unsettled, is followed by another, unless that one gets no further. With `lazy` all but the first
    connect only when there is input to give: where idle connections cost money.
    """

    settled: Callable[[Out], int | None]
    again: Callable[[Exception], bool]
    pause: Callable[[int], float | None]
    room: int
    hold: float = 0.0
    unit: int = 1
    tail: int | None = None
    lazy: bool = False
    lifetime: float | None = None
    quiet: Callable[[bytes], bool] = lambda _chunk: True
    silence: float | None = None
    speech: Callable[[bytes], bool] = lambda _piece: True
    replay_rate: float | None = None  # bytes a second at which input is given again; None: as fast as it is taken
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeStatistics:
    """A resumable stream at one moment, in bytes and in attempts."""

    attempts: int
    connects: int  # attempts that had input to give, and so a connection
    breaks: int  # attempts that did not end as they should
    given: int  # input given to attempts, each byte counted once
    settled: int
    replayed: int  # input given again
    evicted: int  # input that was given, not settled, and could not be given again when its attempt broke


class _Unlocked:
    """A lock that is let go for as long as a `with` lasts."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *_error: object) -> None:
        self._lock.acquire()


class _Tap:
    """The feed's end, shared by all attempts: one of them pulls, the others wait for what it gets."""

    def __init__(self, feed: Iterator[bytes], rules: Resumption[Any]) -> None:
        self.ring = Ring(rules.unit)
        self._feed = feed
        self._rules = rules
        self._judged = self._speech_end = 0  # up to where it was judged, and where the last speech in that ends
        self._ended = False  # the feed, for good
        self._pulling = False
        self._reader: _Try | None = None
        self._lock = threading.Lock()
        self._unlocked = _Unlocked(self._lock)
        self._changed = threading.Condition(self._lock)

    def begin(self, attempt: _Try) -> None:
        """Make this attempt the one that counts, and put it where the settled input ends."""
        with self._lock:
            attempt.begun = attempt.position = self.ring.start
            attempt.live_from = self.ring.end
            self._reader = attempt

    def next(self, attempt: _Try) -> bytes | None:
        """Return what comes next for an attempt, waiting for it; None when the attempt or the feed is over."""
        with self._lock:
            if not self._wait(attempt):
                return None
            chunk = self.ring.read(attempt.position)
            attempt.gets(chunk)
            return chunk

    def wait(self, attempt: _Try) -> bool:
        """Wait for input for an attempt; return whether there is any, or the attempt or the feed is over."""
        with self._lock:
            return self._wait(attempt)

    def _wait(self, attempt: _Try) -> bool:
        """Do so with the lock held, but for the waiting itself."""
        while not attempt.is_over:
            if self.ring.end > attempt.position:
                return True
            if self._ended:
                return False
            if self._pulling:
                self._changed.wait()
            elif (hold := self._hold()) > 0:
                attempt.expects_answer(self.ring.start, self._rules.clock())  # there is no more room for its speech
                self._changed.wait(min(hold, attempt.patience()))
                with self._unlocked:
                    attempt.watch()
            else:
                self._pull(attempt)
        return False

    def _hold(self) -> float:
        """Return for how long nothing more may be taken, as there is no room and nothing may be evicted."""
        if self.ring.end - self.ring.start <= self._rules.room or not self._holds_speech():
            return 0.0
        now = self._rules.clock()
        since = self._reader.had_at(self.ring.start) if self._reader else now
        return max(0.0, since + self._rules.hold - now)

    def _holds_speech(self) -> bool:
        for position, piece in self.ring.pieces(self._judged):
            if self._rules.speech(piece):
                self._speech_end = position + len(piece)
        self._judged = self.ring.end
        return self._speech_end > self.ring.start

    def _pull(self, attempt: _Try) -> None:
        self._pulling = True
        with self._unlocked:
            chunk = next(self._feed, None)  # may wait for ever
        self._pulling = False
        if chunk is None:
            self._ended = True
        else:
            self.ring.append(chunk)
            excess = self.ring.end - self.ring.start - self._rules.room
            if excess > 0 and self._hold() == 0:
                # What goes has been given at least, to the attempt that counts.
                given = self._reader.position if self._reader else 0
                self.ring.release(min(self.ring.start + excess, given))
        if attempt is not self._reader:  # which waits for what an old one pulls; otherwise nobody does
            self._changed.notify_all()

    def settle(self, position: int) -> None:
        with self._lock:
            self.ring.release(position)
            self._changed.notify_all()

    def first_speech(self, attempt: _Try, position: int) -> float | None:
        """Return when an attempt had all of the first piece with speech, from a position on; None if it had none."""
        with self._lock:
            for begin, piece in self.ring.pieces(position):
                if begin >= attempt.position:
                    break
                if self._rules.speech(piece):
                    return attempt.had_at(begin + len(piece) - 1)  # its begin may be older, and silent
            return None

    def unsettled_speech(self) -> int:
        """Return how much speech waits to be settled."""
        with self._lock:
            return sum(len(piece) for _, piece in self.ring.pieces() if self._rules.speech(piece))

    def pause(self, attempt: _Try, seconds: float) -> None:
        """Wait for so long, or until the attempt is over."""
        with self._lock:
            self._changed.wait_for(lambda: attempt.is_over, seconds)

    def end(self, attempt: _Try) -> None:
        """End an attempt's wait, for good."""
        with self._lock:
            attempt.is_over = True
            self._changed.notify_all()


class _Try:
    """One attempt: its connection, and its own iterator over the ring."""

    def __init__(self, rules: Resumption[Out], tap: _Tap, mute: int) -> None:
        self.born = rules.clock()
        self.begun = 0  # from here on it is given input
        self.position = 0  # up to here it was
        self.live_from = 0  # what comes before is given again
        self.is_over = False
        self.rotated = False
        self.stuck = False
        self.mute = mute  # how many attempts in a row were stuck, and have said nothing since
        self.abort: Callable[[], object] | None = None
        self._rules = rules
        self._tap = tap
        self._answers = 0  # counted by the worker; all else is for whoever iterates the feed
        self._asked_at = 0.0  # when it was first given input that is not answered yet; perhaps silence
        self._asked_from: int | None = 0  # and where that begins; None once there is known to be speech in it
        self._asked_after = -1  # so many answers; if there are more by now, nothing waits for one
        self._had: list[tuple[int, float]] = []  # up to which position it was given input, and when

    def feed(self) -> Iterator[bytes]:
        while not self.rotated and (chunk := self._tap.next(self)) is not None:
            if self._rules.replay_rate is not None and self.position <= self.live_from:
                self._tap.pause(self, len(chunk) / self._rules.replay_rate)
            self._judge(chunk)
            yield chunk

    def gets(self, chunk: bytes) -> None:
        self.position += len(chunk)
        had, now = self._had, self._rules.clock()
        if len(had) > 1 and now - had[-2][1] < 1.0:
            had[-1] = self.position, now  # to the second is enough, and keeps it short
        else:
            had.append((self.position, now))
        while had[0][0] <= self._tap.ring.start:  # settled; the last is not, as it was given just now
            del had[0]

    def had_at(self, position: int) -> float:
        """Return when it had been given what begins at a position; now if it was not yet."""
        return next((at for end, at in self._had if end > position), self._rules.clock())

    def answered(self) -> None:
        self._answers += 1
        self.mute = 0

    def expects_answer(self, position: int, now: float) -> bool:
        """Note that an answer to what begins at a position is waited for, unless one to earlier input is already."""
        if self._asked_after == self._answers:
            return False
        self._asked_after, self._asked_from, self._asked_at = self._answers, position, now
        return True

    def patience(self) -> float:
        """Return for how long an answer may still be waited for, or what it is to answer need not be looked at."""
        mute = self.mute  # before it is looked whether there was an answer, which sets it back
        if self._rules.silence is None or self._asked_after != self._answers or self.stuck:
            return math.inf
        # The look is early: once the time is up, speech may be evicted, and what came after it is younger.
        times = 1 << max(0, mute - 1) if self._asked_from is None else 1
        return self._asked_at + self._rules.silence * times - self._rules.clock()

    def watch(self) -> None:
        """Abort it if its answer is overdue. Whether it was given any speech at all is looked at only then."""
        if self.patience() > 0:
            return
        if self._asked_from is not None:
            given = self._tap.first_speech(self, self._asked_from)
            if given is None:
                self._asked_after = -1
                return
            self._asked_from, self._asked_at = None, max(self._asked_at, given)
        if self.patience() <= 0:
            self.stuck = True
            if self.abort is not None:
                self.abort()

    def _judge(self, chunk: bytes) -> None:
        rules, now = self._rules, self._rules.clock()
        if rules.lifetime is not None:
            left = rules.lifetime - (now - self.born)
            due = left <= 0 or (left <= rules.lifetime * QUIET_SHARE and rules.quiet(chunk))
            self.rotated = due and self.position - self.begun >= rules.unit  # or the next would begin where it began
        if rules.silence is not None and not self.expects_answer(self.position - len(chunk), now):
            self.watch()


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
        self._attempts = self._connects = self._breaks = 0
        self._given = self._settled = self._replayed = self._evicted = 0

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
            connects=self._connects,
            breaks=self._breaks,
            given=max(self._given, self._attempt.position if self._attempt else 0),
            settled=self._settled,
            replayed=self._replayed,
            evicted=self._evicted,
        )

    def __call__(self, feed: Iterator[bytes]) -> Iterator[Out]:
        """Yield the responses of one attempt after the other, each begun where the settled input ends."""
        tap = _Tap(feed, self._rules)
        failures_in_a_row = mute = 0
        doubted = False
        while True:
            attempt, settled_before = self._begin(tap, mute), self._settled
            try:
                yield from self._responses(attempt, tap)
            except Exception as error:  # whatever an SDK raises; `again` knows which of it will pass
                failures_in_a_row = failures_in_a_row + 1 if self._settled == settled_before else 0
                pause = self._rules.pause(failures_in_a_row) if self._rules.again(error) else None
                if pause is None or self._aborted.wait(pause):
                    raise
                self._breaks += 1
                mute, doubted = attempt.mute + attempt.stuck, False
            else:
                failures_in_a_row = mute = 0
                if self._is_doubtful(tap) and (self._settled > settled_before or not doubted):
                    doubted = True
                    self._breaks += 1
                elif attempt.rotated:
                    doubted = False
                    self._settle(attempt.position, tap)  # its last words answer all that it was given
                else:
                    return
            finally:
                tap.end(attempt)
                self._replayed += min(self._given, attempt.position) - attempt.begun
                self._given = max(self._given, attempt.position)

    def _begin(self, tap: _Tap, mute: int) -> _Try:
        attempt = _Try(self._rules, tap, mute)
        tap.begin(attempt)
        self._evicted += attempt.position - self._settled
        self._settled = attempt.position
        self._attempts += 1
        self._attempt = attempt
        return attempt

    def _responses(self, attempt: _Try, tap: _Tap) -> Iterator[Out]:
        if self._rules.lazy and self._attempts > 1 and not tap.wait(attempt):
            return  # all is settled, and there will be no more
        attempt.born = self._rules.clock()
        self._connects += 1
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

    def _is_doubtful(self, tap: _Tap) -> bool:
        tail = self._rules.tail
        return tail is not None and not self._aborted.is_set() and tap.unsettled_speech() > tail

    def _settle(self, position: int, tap: _Tap) -> None:
        self._settled = max(self._settled, position - position % self._rules.unit)
        tap.settle(self._settled)
