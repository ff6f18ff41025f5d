"""The port between the service and a speech SDK: what an SDK takes, how it behaves, and how a stream to it is opened.

An `Engine` says what is particular to one SDK. Everything else is common (`streams.py`): conversion, the size of
messages, the circuit breaker, resumption, rotation, the watchdog and the bound on last words.
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

    Responses are messages of `protocol.messages`, or whatever the client understands. An engine that learns before the
    first response that the service has accepted the stream says so in `has_answered`. A stream that outlives its
    connections has `statistics`, and is told by `input_ended` that the client ends it. One that may be stuck in an SDK
    that nothing wakes takes in `on_stuck` what to call then, with the reason, from another thread; without a reason if
    everything was answered.
    """

    statistics: Callable[[], ResumeStatistics] | None = None
    input_ended: Callable[[], object] = lambda: None
    has_answered: Callable[[], bool] | None = None
    on_stuck: Callable[[Callable[[str], object]], object] | None = None


Open = Callable[[StreamRequest], Upstream]
"""Opens one stream for a client's request. It may raise UpstreamClosed, and must not block."""

Settled = Callable[[str, float], float | None]
"""Takes a response, and where its connection began. Returns up to where it settles the audio, None if it does not.

Both are in seconds of the stream, `start_ts` included.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an SDK takes, and how it behaves. Times in seconds.

    Audio that an SDK takes is passed on as it is sent, any other is decoded to 16 kHz mono S16LE. Raw audio that cannot
    be decoded, as its channels are not interleaved, is refused with 4002, or left to the service if there are no
    `formats`. What is longer than `largest` bytes goes in several messages.
    """

    formats: frozenset[str] | None = None  # of raw audio, as GStreamer names them; None: S16LE
    rates: range = ContentType.RATES  # samples a second of raw audio
    channels: int = ContentType.CHANNELS[-1]
    decodes: frozenset[str] = frozenset()  # media types that it decodes itself: such streams have one connection
    languages: frozenset[str] | None = None  # None: the service judges
    largest: int | None = None  # bytes of a message; None: any
    whole_samples: bool = False  # in each message: clients may end theirs in the middle of one
    lifetime: float | None = None  # of a connection; it is replaced before
    room: float = 60.0  # of audio in the replay buffer: longer than finals may lie apart
    hold: float = 30.0  # for which a connection had the audio, and no final settled it: then it may be evicted
    tail: float = 1.0  # of speech that may stay without a final at a good end; if there is more, the end is doubted

    @property
    def known_formats(self) -> frozenset[str]:
        """The formats of raw audio that it certainly takes."""
        return frozenset({"S16LE"}) if self.formats is None else self.formats

    def takes(self, kind: ContentType) -> bool:
        """Tell whether an SDK takes audio of this type as it is sent."""
        if kind.media != ContentType.RAW:
            return kind.media in self.decodes
        is_known = kind.format in self.known_formats
        return is_known and kind.rate in self.rates and (kind.channels or 1) <= self.channels


def _health() -> Health:
    from speechbridge.engines.health import Health  # noqa: PLC0415 # it raises UpstreamClosed

    return Health()


@dataclass(frozen=True)
class Engine:
    """A speech SDK. `open` opens one connection of it.

    With `settled`, streams of raw audio are resumable: each new connection gets as `start_ts` where it begins, and the
    times in its responses must count from there. `running` is entered while the service runs. `health` is shared by all
    streams. `name` is for metrics and logs.
    """

    name: str
    open: Open
    capabilities: Capabilities = Capabilities()
    settled: Settled | None = None
    health: Health = field(default_factory=_health)
    running: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext


class UpstreamClosed(Exception):
    """The upstream ended the stream early, or could not be reached. The text may be shown to the client.

    `is_retryable` says whether another try may succeed: as the close code has it, if nothing else is given. With
    `is_at_once` it need not wait, as it goes elsewhere. `has_timed_out` says that a connection could not be made in
    time: such a try is so long that few are made before all streams are held back.
    """

    def __init__(
        self, close: Close, *, is_retryable: bool | None = None, is_at_once: bool = False, has_timed_out: bool = False
    ) -> None:
        super().__init__(str(close))
        self.close = close
        self.is_at_once = is_at_once
        self.has_timed_out = has_timed_out
        self.is_retryable = close.is_retryable if is_retryable is None else is_retryable
