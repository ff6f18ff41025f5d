"""How much one connection sends, frame by frame: messages, their fragments, pings, pongs and empty frames. Pure.

A frame that carries nothing costs time as well, and the application never sees most of them. So every frame is counted,
before it is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.server.frames import FrameWalk

IDLE_FRAMES = 100  # a second. A well-behaved client sends a ping, or answers one, every few seconds

TOO_MANY_IDLE = Close(CloseCode.POLICY, f"more than {IDLE_FRAMES} pings, pongs or empty frames a second")


class Meter:
    """Counts what one connection sends.

    `limit` is set once the connection is admitted, if its address or its key has a limit: it gets a number of bytes,
    a number of frames and the time, and returns what the client is told if that is too much. `verdict` is what it
    returned.
    """

    def __init__(self) -> None:
        self.limit: Callable[[int, int, float], Close | None] | None = None
        self.verdict: Close | None = None
        self._second = 0
        self._idle = 0

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
