"""The totals of sessions, for the log, the metrics and tests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from syncbridge import Statistics

Outcome = Literal[
    "completed",  # all audio was processed, and all results were sent
    "left",  # the client left before the end
    "invalid",  # the client broke the protocol
    "upstream",  # the speech service ended or refused the stream
    "failed",  # the SDK, or the service itself, failed
    "refused",  # all slots were in use
    "drained",  # the service was shut down
    "limited",  # the stream reached the longest duration allowed
    "cancelled",  # the session's task was cancelled
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
ENDED_BY_UPSTREAM: tuple[Outcome, ...] = ("completed", "upstream", "refused")  # there is no upstream connection left


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The totals of one session or several. Seconds are counted for raw 16-bit audio only; otherwise they are 0."""

    received_bytes: int = 0
    received: float = 0.0  # seconds of audio that clients sent before they ended their input
    given: float = 0.0  # of these, seconds given to the SDK; each counts once
    replayed: float = 0.0  # seconds given again after an upstream connection broke, or the stream moved
    lost: float = 0.0  # seconds not given before the session ended, or evicted before they had to be replayed
    reconnects: int = 0
    breaks: int = 0
    partials: int = 0
    finals: int = 0
    others: int = 0  # responses that are neither partials nor finals: other SDKs have their own formats

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Totals)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatistics:
    """A snapshot of all sessions, including those that have ended."""

    alive: int
    ended: Mapping[Outcome, int]
    totals: Totals
    bridges: tuple[Statistics, ...]  # of the running sessions
