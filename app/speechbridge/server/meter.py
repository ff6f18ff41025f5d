"""How much one connection sends, frame by frame: messages, their fragments, pings, pongs and empty frames. Pure.

A frame that carries nothing costs time as well, and the application never sees most of them. So every frame is counted,
before it is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.server.frames import CONTINUATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.server.frames import FrameWalk

LARGER = 4  # times larger than others the messages of an endpoint may be
IDLE_FRAMES = 100  # a second. A well-behaved client sends a ping, or answers one, every few seconds

TOO_MANY_IDLE = Close(CloseCode.POLICY, f"more than {IDLE_FRAMES} pings, pongs or empty frames a second")


class Meter:
    """Counts what one connection sends.

    `limit` is set once the connection is admitted, if its address or its key has a limit: it gets a number of bytes,
    a number of frames and the time, and returns what the client is told if that is too much. `verdict` is what it
    returned.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest  # bytes of a message
        self._message = 0  # bytes of the current one, as far as its frames have begun
        self._is_told = False
        self.limit: Callable[[int, int, float], Close | None] | None = None
        self.verdict: Close | None = None
        self._second = 0
        self._idle = 0

    def allow_larger(self, times: int) -> None:
        """Let messages be so many times larger, `LARGER` at most. The gate tells a client of one that is too large."""
        self._largest *= times
        self._is_told = True

    def measure(self, step: FrameWalk) -> Close | None:
        """Look at the header of a text or binary frame; return what the client is told if its message is too large."""
        self._message = step.length + (self._message if step.opcode == CONTINUATION else 0)
        if self._message <= self._largest:
            return None
        close = Close(CloseCode.TOO_BIG, f"a message may have {self._largest} bytes here: send smaller ones")
        if self._is_told:
            self.verdict = close
        return close

    def count(self, step: FrameWalk, now: float) -> Close | None:
        """Count what was walked in one step; return what the client is told if it was too much for one second.

        Without a limit, only idle frames need be counted.
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
