"""What sessions did, added up: what the log, the metrics and tests read. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from syncbridge import Statistics

Outcome = Literal[
    "completed",  # all was heard and said
    "left",  # its client went before it had heard the end
    "invalid",  # its client sent what is not understood
    "upstream",  # the speech service ended or refused it
    "failed",  # the SDK, or the service itself, broke
    "refused",  # there was no slot
    "drained",  # the service was told to end
    "limited",  # it was as long as one may be
    "cancelled",  # its task was
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What sessions have done, added up. Seconds are known of raw 16-bit audio only; of other kinds they are 0."""

    received_bytes: int = 0
    received: float = 0.0  # seconds of audio that clients sent before the end of their input
    given: float = 0.0  # of these, to the SDK, each counted once
    replayed: float = 0.0  # given again, after a connection broke
    lost: float = 0.0  # not given when the session ended, or to be given again and not there any more
    reconnects: int = 0
    breaks: int = 0
    partials: int = 0
    finals: int = 0
    others: int = 0  # responses that are neither: a plain SDK says what it likes

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Totals)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatistics:
    """All sessions at one moment, those that are over included."""

    alive: int
    ended: Mapping[Outcome, int]
    totals: Totals
    bridges: tuple[Statistics, ...]  # of those alive
