"""Exponential backoff with full jitter: the pause before the next attempt. Pure, except for the random number.

Full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): each pause is a random share
of a limit that doubles with each failure. So clients that failed at the same moment do not all retry at the same
moment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DOUBLINGS = 60  # at most: by then any `longest` is reached, and many more would overflow a float


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds. The limit is `first` after the first failure; it doubles with each more, up to `longest`."""

    first: float
    longest: float

    def limit(self, failures: int) -> float:
        """Return the limit of the pause after `failures` earlier failures in a row (0 after the first failure).

        It can be used as a pause without jitter where nobody else retries at the same moment.
        """
        return min(self.longest, self.first * 2.0 ** min(failures, DOUBLINGS))

    def pause(self, failures: int, chance: Callable[[], float] = random.random) -> float:
        """Return a pause with full jitter after `failures` earlier failures in a row. `chance` returns 0 to 1."""
        return self.limit(failures) * chance()
