"""The one place where the feed is pulled: one attempt pulls, and the others wait for the chunk to reach the ring."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from syncbridge.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncbridge.resumable.attempt import LiveAttempt
    from syncbridge.resumable.rules import Resumption


class _Unlocked:
    """A context manager that releases a lock on entry, and acquires it again on exit."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *_error: object) -> None:
        self._lock.acquire()


class Tap:
    """The feed and the ring, shared by all attempts of a stream."""

    def __init__(self, feed: Iterator[bytes], rules: Resumption[Any]) -> None:
        self.ring = Ring(rules.unit)
        self.lock = threading.Lock()  # guards the ring, and what attempts know of their input
        self._feed = feed
        self._rules = rules
        self._judged = 0  # the position up to which the input was searched for speech
        self._speech_end = 0  # the position where the last speech found ends
        self.has_ended = False  # the feed has ended: there will be no more input
        self._pulling = False
        self._current: LiveAttempt | None = None  # the latest attempt; older ones are over
        self._unlocked = _Unlocked(self.lock)
        self._changed = threading.Condition(self.lock)

    def begin(self, attempt: LiveAttempt) -> None:
        """Make this attempt the current one, and have it begin where the settled input ends."""
        with self.lock:
            attempt.begun = attempt.position = self.ring.start
            attempt.live_from = self.ring.end
            self._current = attempt

    def next(self, attempt: LiveAttempt) -> bytes | None:
        """Wait for the next chunk for an attempt, and return it; None when the attempt or the feed is over."""
        with self.lock:
            attempt.watchdog.came_back()
            if not self._wait(attempt):
                return None
            chunk = self.ring.read(attempt.position)
            attempt.note_input(chunk)
            return chunk

    def wait(self, attempt: LiveAttempt) -> bool:
        """Wait for input for an attempt. Returns False if the attempt or the feed is over instead."""
        with self.lock:
            return self._wait(attempt)

    def _wait(self, attempt: LiveAttempt) -> bool:
        """Do the same with the lock held; it is released while this waits."""
        while not attempt.is_over:
            if self.ring.end > attempt.position:
                return True
            if self.has_ended:
                return False
            if self._pulling:
                self._changed.wait()
            elif (hold := self._hold()) > 0:
                attempt.waits_for_room()
                self._changed.wait(hold)
            else:
                self._pull(attempt)
        return False

    def _hold(self) -> float:
        """Return for how many seconds no more may be taken, because there is no room and nothing may be evicted yet."""
        if self.ring.end - self.ring.start <= self._rules.room or not self._holds_speech():
            return 0.0
        now = self._rules.timer.time()
        since = self._current.had_at(self.ring.start) if self._current else now
        return max(0.0, since + self._rules.hold - now)

    def _holds_speech(self) -> bool:
        for position, piece in self.ring.pieces(self._judged):
            if self._rules.speech(piece):
                self._speech_end = position + len(piece)
        self._judged = self.ring.end
        return self._speech_end > self.ring.start

    def _pull(self, attempt: LiveAttempt) -> None:
        self._pulling = True
        with self._unlocked:
            chunk = next(self._feed, None)  # may wait for ever
        self._pulling = False
        if chunk is None:
            self.has_ended = True
        else:
            self.ring.append(chunk)
            excess = self.ring.end - self.ring.start - self._rules.room
            if excess > 0 and self._hold() == 0:
                # Evict only input that the current attempt was given.
                given = self._current.position if self._current else 0
                self.ring.release(min(self.ring.start + excess, given))
        if attempt is not self._current:  # an old attempt pulled, and the current one may wait for its chunk
            self._changed.notify_all()

    def settle(self, position: int) -> None:
        """Release the input before a position."""
        with self.lock:
            self.ring.release(position)
            self._changed.notify_all()

    def first_speech(self, attempt: LiveAttempt, position: int) -> float | None:
        """Return when an attempt had been given the first piece with speech at or after a position; None if none.

        With the lock held.
        """
        for begin, piece in self.ring.pieces(position):
            if begin >= attempt.position:
                break
            if self._rules.speech(piece):
                return attempt.had_at(begin + len(piece) - 1)  # its end counts: the piece may begin with silence
        return None

    def unsettled_speech(self) -> int:
        """Return how many bytes of speech are not settled."""
        with self.lock:
            return self._unsettled_speech()

    def _unsettled_speech(self) -> int:
        return sum(len(piece) for _, piece in self.ring.pieces() if self._rules.speech(piece))

    def is_settled(self) -> bool:
        """Tell whether all input is settled, except perhaps a short end without speech. With the lock held."""
        left = self.ring.end - self.ring.start
        return left < self._rules.unit or (left < (self._rules.tail or 0) and self._unsettled_speech() == 0)

    def last(self, position: int, size: int) -> bytes:
        """Return `size` bytes before a position, or fewer at the ring's start; whole units. With the lock held."""
        unit = self._rules.unit
        stop = position - position % unit
        begin = max(self.ring.start, stop - size)
        return b"".join(piece for _, piece in self.ring.pieces(begin))[: max(0, stop - begin)]

    def pause(self, attempt: LiveAttempt, seconds: float) -> None:
        """Make an attempt wait for its next input, for some seconds or until it is over."""
        with self.lock:
            attempt.watchdog.came_back()
            self._changed.wait_for(lambda: attempt.is_over, seconds)

    def end(self, attempt: LiveAttempt) -> None:
        """End an attempt's input: it gets no more, and stops waiting for it."""
        with self.lock:
            attempt.is_over = True
            self._changed.notify_all()
