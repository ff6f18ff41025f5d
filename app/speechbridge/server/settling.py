"""Up to where finals cover a stream's audio, beside each final: what another process needs to go on behind it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from syncbridge.start import close, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.engines import Upstream


class Settling:
    """Notes, in the upstream's thread, how much is settled at each response; tells it when that response has been sent.

    By then the upstream may have settled more, of which the responses are still on their way. `tell` is told 0 at once,
    and then bytes of audio. It is told nothing by an upstream that settles nothing; nor is None.
    """

    def __init__(self, upstream: Upstream, tell: Callable[[int], object] | None) -> None:
        self._upstream = upstream
        self._tell = tell if upstream.statistics is not None else None
        self._positions: deque[int] = deque()  # of responses that are on their way
        if self._tell is not None:
            self._tell(0)

    def start(self, audio: Iterator[bytes]) -> Iterable[str]:
        """Start the upstream."""
        return self._upstream.start(audio) if self._tell is None else self._noting(audio)

    def _noting(self, audio: Iterator[bytes]) -> Iterator[str]:
        statistics = self._upstream.statistics
        assert statistics is not None  # noqa: S101 # there is somebody to tell
        responses = started(self._upstream.start, audio)
        try:
            for response in responses:
                self._positions.append(statistics().settled)
                yield response
        finally:
            close(responses)

    def sent(self) -> None:
        """Note that a response was sent, in whatever messages."""
        if self._tell is not None:
            self._tell(self._positions.popleft())
