"""What a caller tells about its SDK, so that its streams can be resumed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from syncbridge.types import Out

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption(Generic[Out]):
    """What makes input resumable. Positions and sizes are in bytes, times in seconds.

    `settled` returns up to which position a response settles the input, None if it settles nothing. `again` decides
    whether to try again after an error. `pause` gives the wait before the next try, by the number of attempts in a row
    that settled nothing; None gives up. `quiet` judges whether a chunk is a good place to cut; `speech` judges whether
    a piece of the input deserves an answer.

    When more than `room` waits to be settled, more input is taken only as some is settled, or holds no speech, or was
    given `hold` seconds ago. An attempt begins at a multiple of `unit`. An attempt that ends well, but with more than
    `tail` of speech unsettled, is followed by another, unless that one gets no further. With `lazy` all attempts but
    the first connect only when there is input to give: for services that charge for idle connections.

    After `lifetime` an attempt is replaced, at a quiet chunk if there is one in the last tenth. An attempt that was
    given speech and did not answer for `silence` is aborted.
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
