"""What a stream must know of its SDK to be resumable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from syncbridge.timer import TIMER, Timer
from syncbridge.types import Out

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption(Generic[Out]):
    """The rules of a resumable stream. Positions and sizes are in bytes, times in seconds.

    `settled` is called with a response, and with the position at which its attempt began: most SDKs count time from
    there. It returns the position up to which the response settles the input, or None if it settles nothing. `again`
    decides whether to try again after an error; after Stuck and Early it should return True. `pause` returns the wait
    before the next attempt, given the number of attempts in a row that settled nothing; None gives up. `quiet` decides
    whether a chunk is a good place to cut; `speech` decides whether a piece of the input deserves an answer.

    While more than `room` bytes are unsettled, more input is taken only if the oldest of it holds no speech, or was
    given to the attempt `hold` seconds ago. An attempt begins at a multiple of `unit`. If an attempt ends without an
    error, but with more than `tail` of speech unsettled, the rest is given to another attempt, once. With `lazy` all
    attempts but the first connect only when there is input to give: for services that charge for idle connections.

    In the last tenth of its `lifetime` an attempt is replaced: at the first chunk for which `quiet` returns True, or,
    without `quiet`, at the first response that settles input; at the latest at the end of the lifetime. With
    `finals_first` such a response is preferred to a pause, and `quiet` is called in the last twentieth only. `quiet` is
    called with the chunk; with `window`, it is called with that many of the latest bytes of input, however short the
    chunks are, and not before there are as many.

    Once the stream's input has ended, and all of it is settled but for less than `tail` without speech, the attempt has
    `linger` seconds to end by itself. Then it is aborted, which counts as a success.

    `silence` limits how long an attempt may leave speech without any answer, or not ask for more input. `answer` limits
    the wait for the last responses, over all attempts: it counts from the end of the input, and again from each
    response that settles more. An attempt that takes longer is aborted. The timer enforces these limits, whatever the
    SDK is blocked in.
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
    replay_rate: float | None = None  # bytes a second at which input is replayed; None: as fast as the SDK takes it
    timer: Timer = TIMER
