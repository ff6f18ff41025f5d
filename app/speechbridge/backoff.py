"""Exponential backoff with full jitter: the pause before the next try. Pure, but for the random number.

Full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): each pause is a random share
of a limit that doubles with each failure. Clients that failed at one moment do not all come back at one moment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DOUBLINGS = 60  # at most: any limit is reached by then, and more would not fit a float


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: the limit is `first` after the first failure, doubles with each further, up to `longest`."""

    first: float
    longest: float

    def limit(self, failures: int) -> float:
        """Return the longest pause after `failures` earlier failures in a row (0 after the first failure).

        For those who try alone: nobody else comes back at the same moment, so there is no need for jitter.
        """
        return min(self.longest, self.first * 2.0 ** min(failures, DOUBLINGS))

    def pause(self, failures: int, chance: Callable[[], float] = random.random) -> float:
        """Return a pause with full jitter after `failures` earlier failures in a row. `chance` gives 0 to 1."""
        return self.limit(failures) * chance()
