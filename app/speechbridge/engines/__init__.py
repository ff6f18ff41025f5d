"""The port between the service and a speech SDK: what an SDK accepts, how it behaves, and how a stream is opened.

An `Engine` holds what is particular to one SDK. Everything else is common (`streams.py`): conversion, the size of
messages, the circuit breaker, resumption, rotation, the watchdog and the time limit for last words.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.request import ContentType, StreamRequest
from syncbridge import Attempt, ResumeStatistics

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from speechbridge.engines.health import Health
    from speechbridge.protocol.close import Close


@dataclass(frozen=True)
class Upstream(Attempt[bytes, str]):
    """One stream, not yet started. Run its `start` in a worker thread; `abort` wakes it from any other thread.

    Responses are messages of `protocol.messages`, or any other text that the client understands.

    - `statistics` and `input_ended` belong to a stream that outlives its connections. Call `input_ended` when the
      client has ended the input.
    - `has_answered`, if an engine has it, returns whether the speech service has accepted the stream. Without it, the
      first response shows that.
    - `on_stuck` belongs to a stream whose thread may hang in an SDK that nothing can wake. Give it a function: it is
      called from another thread when that happens, with the reason, or with an empty reason if the SDK had answered
      everything.
    """

    statistics: Callable[[], ResumeStatistics] | None = None
    input_ended: Callable[[], object] = lambda: None
    has_answered: Callable[[], bool] | None = None
    on_stuck: Callable[[Callable[[str], object]], object] | None = None


Open = Callable[[StreamRequest], Upstream]
"""Opens one stream for a client's request. It may raise UpstreamClosed, and must not block."""

Settled = Callable[[str, float], float | None]
"""Takes a response, and the time at which its connection began. Returns the time up to which the response settles the
audio; None if it settles nothing.

Both times are in seconds of the stream, `start_ts` included.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an SDK accepts, and how it behaves. Times are in seconds.

    Audio that the SDK accepts is passed on unchanged; any other audio is decoded to 16 kHz mono S16LE. Raw audio that
    we cannot convert (its channels are not interleaved) is refused with 4002; if `formats` is None, it is passed on,
    and the speech service decides. Messages longer than `largest` bytes are split.
    """

    formats: frozenset[str] | None = None  # of raw audio, by GStreamer's names; None: S16LE
    rates: range = ContentType.RATES  # sample rates of raw audio, in Hz
    channels: int = ContentType.CHANNELS[-1]
    decodes: frozenset[str] = frozenset()  # media types that it decodes itself: such streams have one connection
    languages: frozenset[str] | None = None  # None: the speech service decides
    largest: int | None = None  # bytes of a message; None: no limit
    whole_samples: bool = False  # it needs whole samples in each message; clients may split a sample
    lifetime: float | None = None  # of a connection; it is replaced before that
    room: float = 60.0  # of audio in the replay buffer; must be longer than the time between two finals
    hold: float = 30.0  # audio that a connection has had for so long, without a final for it, may be evicted
    tail: float = 1.0  # of speech at a normal end that no final need cover; with more, the end counts as a failure

    @property
    def known_formats(self) -> frozenset[str]:
        """The formats of raw audio that it is known to accept."""
        return frozenset({"S16LE"}) if self.formats is None else self.formats

    def takes(self, kind: ContentType) -> bool:
        """Tell whether the SDK accepts audio of this type without conversion."""
        if kind.media != ContentType.RAW:
            return kind.media in self.decodes
        is_known = kind.format in self.known_formats
        return is_known and kind.rate in self.rates and (kind.channels or 1) <= self.channels


def _health() -> Health:
    from speechbridge.engines.health import Health  # noqa: PLC0415 # it raises UpstreamClosed

    return Health()


@dataclass(frozen=True)
class Engine:
    """A speech SDK. `open` opens one connection.

    With `settled`, streams of raw audio are resumable: each new connection gets as `start_ts` the time at which it
    begins, and the times in its responses must count from there. The service enters the context manager `running` when
    it starts, and leaves it when it stops. All streams share `health`. `name` appears in metrics and logs.
    """

    name: str
    open: Open
    capabilities: Capabilities = Capabilities()
    settled: Settled | None = None
    health: Health = field(default_factory=_health)
    running: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext


class UpstreamClosed(Exception):
    """The upstream ended the stream early, or could not be reached. The text may be shown to the client.

    `is_retryable` says whether another try may succeed; by default the close code decides. `retry_at_once` says that
    the retry needs no pause, because it goes to another engine. `has_timed_out` says that a connection could not be
    made in time: such tries are slow, so the circuit breaker opens after fewer of them.
    """

    def __init__(
        self,
        close: Close,
        *,
        is_retryable: bool | None = None,
        retry_at_once: bool = False,
        has_timed_out: bool = False,
    ) -> None:
        super().__init__(str(close))
        self.close = close
        self.retry_at_once = retry_at_once
        self.has_timed_out = has_timed_out
        self.is_retryable = close.is_retryable if is_retryable is None else is_retryable
