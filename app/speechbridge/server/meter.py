"""Counts what one connection sends, frame by frame: messages, their fragments, pings, pongs and empty frames. Pure.

Frames without content cost time, too, and the application never sees most of them. So every frame is counted, before
it is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.server.frames import CONTINUATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.server.frames import FrameWalk

LARGER = 4  # by this factor at most, an endpoint may allow larger messages
IDLE_FRAMES = 100  # a second. A well-behaved client sends a ping, or answers one, every few seconds

TOO_MANY_IDLE = Close(CloseCode.POLICY, f"more than {IDLE_FRAMES} pings, pongs or empty frames a second")


class Meter:
    """Counts what one connection sends.

    `limit` is set once the connection is admitted, if its address or its key has a limit. It is called with a number of
    bytes, a number of frames and the time, and returns a close frame if that is too much. `verdict` is the close frame
    that it returned.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest  # bytes of a message
        self._message = 0  # bytes of the current message, including its latest frame
        self._has_error_message = False  # the protocol reports a message that is too large before the close frame
        self.limit: Callable[[int, int, float], Close | None] | None = None
        self.verdict: Close | None = None
        self._second = 0
        self._idle = 0

    def allow_larger(self, times: int) -> None:
        """Let messages be larger by a factor, `LARGER` at most. The gate then reports one that is too large."""
        self._largest *= times
        self._has_error_message = True

    def measure(self, step: FrameWalk) -> Close | None:
        """Check the header of a text or binary frame; return a close frame if its message is too large."""
        self._message = step.length + (self._message if step.opcode == CONTINUATION else 0)
        if self._message <= self._largest:
            return None
        close = Close(CloseCode.TOO_BIG, f"a message may have {self._largest} bytes here: send smaller ones")
        if self._has_error_message:
            self.verdict = close
        return close

    def count(self, step: FrameWalk, now: float) -> Close | None:
        """Count one step; return a close frame if that was too much for one second.

        Without a limit, only idle frames have to be counted.
        """
        if step.began and step.is_idle:
            second = int(now)
            if second != self._second:
                self._second, self._idle = second, 0
            self._idle += 1
            if self._idle > IDLE_FRAMES:
                return TOO_MANY_IDLE
        if self.limit is not None:
            self.verdict = self.limit(step.payload, int(step.began), now)
        return self.verdict
