"""The port between a session and an SDK: how to open one stream, and how a stream may end.

An engine is called once a session with what the client asked for, and gives an `Upstream` to run in a Bridge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.request import StreamRequest
from syncbridge import Attempt, ResumeStatistics

if TYPE_CHECKING:
    from speechbridge.protocol.close import Close


@dataclass(frozen=True)
class Upstream(Attempt[bytes, str]):
    """One stream, not yet started. Run its `start` in a worker thread; its `abort` wakes it from any other.

    One that outlives its connections has `statistics`.
    """

    statistics: Callable[[], ResumeStatistics] | None = None


Engine = Callable[[StreamRequest], Upstream]


class UpstreamClosed(Exception):
    """The upstream ended the stream before all was said. Its text is fit for a client's eyes."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close
