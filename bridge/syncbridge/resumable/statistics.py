"""The counters of a resumable stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeStatistics:
    """A snapshot of a resumable stream's counters. The first three count attempts, the others bytes."""

    attempts: int
    connects: int  # attempts that connected; with `lazy`, one without input does not
    breaks: int  # attempts that failed, or whose end was not accepted
    given: int  # input given to attempts, each byte counted once
    settled: int
    replayed: int  # input given again
    evicted: int  # input that was evicted unsettled, so that it was missing when its attempt broke


@dataclass(slots=True)
class Counts:
    """The counters themselves. Only the worker writes them, so plain integers are exact."""

    attempts: int = 0
    connects: int = 0
    breaks: int = 0
    given: int = 0
    settled: int = 0
    replayed: int = 0
    evicted: int = 0

    def begin(self, position: int) -> None:
        """Count an attempt that begins at a position. Input between the settled position and there was evicted."""
        self.attempts += 1
        self.evicted += position - self.settled
        self.settled = position

    def end(self, begun: int, position: int) -> None:
        """Count the input that an attempt was given, from `begun` to `position`."""
        self.replayed += min(self.given, position) - begun
        self.given = max(self.given, position)

    def snapshot(self, position: int) -> ResumeStatistics:
        """Return the counters. `position` is the one up to which the running attempt was given input."""
        return ResumeStatistics(
            attempts=self.attempts,
            connects=self.connects,
            breaks=self.breaks,
            given=max(self.given, position),
            settled=self.settled,
            replayed=self.replayed,
            evicted=self.evicted,
        )
