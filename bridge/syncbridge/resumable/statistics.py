"""What a resumable stream has done so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(slots=True)
class Counts:
    """The numbers while they grow. Written by the worker only, so plain integers are exact."""

    attempts: int = 0
    connects: int = 0
    breaks: int = 0
    given: int = 0
    settled: int = 0
    replayed: int = 0
    evicted: int = 0

    def begin(self, position: int) -> None:
        """Count an attempt that begins at a position. What lies between there and the settled input was evicted."""
        self.attempts += 1
        self.evicted += position - self.settled
        self.settled = position

    def end(self, begun: int, position: int) -> None:
        """Count what an attempt was given: from where, and up to where."""
        self.replayed += min(self.given, position) - begun
        self.given = max(self.given, position)

    def snapshot(self, position: int) -> ResumeStatistics:
        """Return the numbers, where the attempt that runs was given input up to a position."""
        return ResumeStatistics(
            attempts=self.attempts,
            connects=self.connects,
            breaks=self.breaks,
            given=max(self.given, position),
            settled=self.settled,
            replayed=self.replayed,
            evicted=self.evicted,
        )
