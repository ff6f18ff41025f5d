"""What a caller tells about its SDK, so that its streams can be resumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from syncbridge.timer import TIMER, Timer
from syncbridge.types import Out

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption(Generic[Out]):
    """What makes input resumable. Positions and sizes are in bytes, times in seconds.

    `settled` is called with a response, and with the position at which its attempt began: there most SDKs' times begin.
    It returns up to which position the response settles the input, None if it settles nothing. `again` decides whether
    to try again after an error; after Stuck and Early it should. `pause` gives the wait before the next try, by the
    number of attempts in a row that settled nothing; None gives up. `quiet` judges whether a chunk is a good place to
    cut; `speech` judges whether a piece of the input deserves an answer.

    When more than `room` waits to be settled, more input is taken only as some is settled, or holds no speech, or was
    given `hold` seconds ago. An attempt begins at a multiple of `unit`. An attempt that ends well, but with more than
    `tail` of speech unsettled, is doubted: another is given the rest, once. With `lazy` all attempts but the first
    connect only when there is input to give: for services that charge for idle connections.

    In the last tenth of its `lifetime` an attempt is replaced: at the first chunk that `quiet` calls so, or, where no
    `quiet` is given, at the first response that settles input; at the end of the lifetime anyhow. With `finals_first` a
    response counts before `quiet` does, which is asked in the last twentieth only. `quiet` is given the chunk, or with
    `window` the last so many bytes of input, however short the chunks are; it is not asked while there are fewer.

    An attempt whose input has ended for good, and of which all is settled but for less than `tail` without speech, has
    `linger` seconds to end by itself. Then it is aborted, and counts as a good end.

    `silence` bounds how long an attempt may leave speech without any answer, or not come back for more input. `answer`
    bounds the last words: what comes after the end of the input, over all attempts, counted from there and from each
    response that settles more. An attempt that takes longer is aborted. The timer looks, whatever the SDK does.
    """

    settled: Callable[[Out, int], int | None]
    again: Callable[[Exception], bool]
    pause: Callable[[int], float | None]
    room: int
    hold: float = 0.0
    unit: int = 1
    tail: int | None = None
    lazy: bool = False
    lifetime: float | None = None
    quiet: Callable[[bytes], bool] | None = None
    window: int = 0
    finals_first: bool = False
    linger: float | None = None
    silence: float | None = None
    answer: float | None = None
    speech: Callable[[bytes], bool] = lambda _piece: True
    replay_rate: float | None = None  # bytes a second at which input is given again; None: as fast as it is taken
    timer: Timer = TIMER
