"""The port between a session and a speech SDK: how a stream is opened, and how it may end.

An engine is called once for each session with the client's request, and returns an `Upstream` to run in a Bridge.
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
    """One stream, not yet started. Run its `start` in a worker thread; `abort` wakes it from any other thread.

    A stream that outlives its connections has `statistics`, and is told by `input_ended` that the client ends it.
    """

    statistics: Callable[[], ResumeStatistics] | None = None
    input_ended: Callable[[], object] = lambda: None


Engine = Callable[[StreamRequest], Upstream]


class UpstreamClosed(Exception):
    """The upstream ended the stream early, or could not be reached. The text may be shown to the client.

    `is_retryable` says whether another try may succeed: as the close code has it, if nothing else is given.
    """

    def __init__(self, close: Close, *, is_retryable: bool | None = None) -> None:
        super().__init__(str(close))
        self.close = close
        self.is_retryable = close.is_retryable if is_retryable is None else is_retryable
