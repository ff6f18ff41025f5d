"""What a resumable stream does after a connection has ended: resume, begin a new stream, or end. Pure.

    how the connection ended                            what the client does
    a code of COME_BACK_CODES                           resume
    no connection, or another of RECONNECT_CODES        resume; the second time in a row begin a new stream, the third
                                                        time end
    a code of NEW_STREAM_CODES                          begin a new stream
    UNKNOWN_STREAM in answer to a resume key            begin a new stream
    any other close                                     end

Before the service has accepted the stream once, every failure ends it. The count of equal closes in a row begins again
after each final. A connection that is lost without a close frame is not counted: it says nothing about the stream. A
stream that would need a new beginning, but cannot have one, ends.

The stream also ends when nothing has worked for `away_seconds`, counted from the first failure. A connection has worked
if the service acknowledged audio on it for the first time, or if it lasted for STEADY_SECONDS. After the service has
refused new streams (NEW_STREAM_CODES), only a message of the transcript shows that it works again: the service
acknowledges audio even while the speech service behind it does not answer.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import TYPE_CHECKING

from speechbridge.backoff import Backoff
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.resume import COME_BACK_CODES, NEW_STREAM_CODES, RECONNECT_CODES, UNKNOWN_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

BACKOFF = Backoff(0.1, 3.0)  # seconds between two tries
TOO_OFTEN_SECONDS = 10.0  # pause after "too many handshakes a minute"
STEADY_SECONDS = 10.0  # a connection that lasts for so long has worked
REPEATS = 3  # after the same close so often in a row, without a final in between, retries stop

LOST = Close(CloseCode.ABNORMAL)


class Next(Enum):
    """What to do after a connection."""

    RESUME = auto()
    RESTART = auto()
    END = auto()


class Retry:
    """Decides for one stream. All times are in seconds of one clock."""

    def __init__(self, *, can_restart: bool, away_seconds: float) -> None:
        self._can_restart = can_restart
        self._away_seconds = away_seconds
        self._has_begun = False
        self._greeted_at: float | None = None  # on this connection
        self._away_since: float | None = None
        self._refused_since: float | None = None
        self._failures = 0  # connections in a row that did not work
        self._last = LOST
        self._times = 0  # how often `_last` was the close, in a row

    def greeted(self, now: float) -> None:
        """Note that the service has accepted the stream on a new connection."""
        self._has_begun, self._greeted_at = True, now

    def acknowledged(self) -> None:
        """Note that the service has received audio that it did not have before."""
        self._away_since, self._failures = None, 0

    def transcribed(self, *, is_final: bool) -> None:
        """Note a partial or a final."""
        self.acknowledged()
        self._refused_since = None
        if is_final:
            self._times = 0

    def after(self, close: Close | None, now: float, *, is_resuming: bool) -> Next:
        """Decide what to do after a connection that ended with `close`; None if no connection could be made.

        `is_resuming` says whether a resume key was sent.
        """
        close = close or LOST
        is_same = close == self._last and close.code != CloseCode.ABNORMAL
        self._last, self._times = close, self._times + 1 if is_same else 1
        lasted = 0.0 if self._greeted_at is None else now - self._greeted_at
        self._greeted_at = None
        if close.code in RECONNECT_CODES and lasted >= STEADY_SECONDS:
            self.acknowledged()
        if not self._has_begun or self._is_hopeless(close, now):
            return Next.END
        if close.code in COME_BACK_CODES:
            return Next.RESUME
        if close.code in NEW_STREAM_CODES or (is_resuming and close.code == UNKNOWN_STREAM):
            return self._restart()
        if close.code not in RECONNECT_CODES or self._times >= REPEATS:
            return Next.END
        return self._restart() if self._times > 1 else Next.RESUME

    def pause(self, chance: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait before the next connection. Call it once per connection: pauses grow."""
        failures, self._failures = self._failures, self._failures + 1
        return TOO_OFTEN_SECONDS if self._last.code == CloseCode.TOO_OFTEN else BACKOFF.pause(failures, chance)

    def _is_hopeless(self, close: Close, now: float) -> bool:
        self._away_since = now if self._away_since is None else self._away_since
        if close.code in NEW_STREAM_CODES:
            self._refused_since = now if self._refused_since is None else self._refused_since
        since = min(self._away_since, now if self._refused_since is None else self._refused_since)
        return now - since > self._away_seconds

    def _restart(self) -> Next:
        return Next.RESTART if self._can_restart else Next.END
