"""Rev.ai's cloud, or another server that speaks its protocol, as an engine.

`rev_stream` is one stream through Rev.ai's unmodified SDK, `rev_socket` the socket that the SDK uses.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from speechbridge.engines import Capabilities, Engine, Upstream, UpstreamClosed
from speechbridge.engines.health import Health
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.engines.rev_socket import Timeouts
from speechbridge.engines.rev_stream import RevStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from speechbridge.protocol.request import StreamRequest

__all__ = ["RevEngine", "Timeouts", "rev_engine"]

# 2 s of 16 kHz mono. More audio may have queued up, but the largest message that an upstream accepts is not known.
# There is no lifetime: Rev.ai closes a connection after 3 h, other servers with its protocol do not, so the setting
# SPEECHBRIDGE_UPSTREAM_LIFETIME decides when a connection is replaced.
CAPABILITIES = Capabilities(largest=2**16)


class RevEngine:
    """Opens streams to Rev.ai's cloud, or to any server that speaks its protocol.

    `url` is called for each stream; it returns `wss://host` or `ws://host:port`, without the path. It may raise
    UpstreamClosed while there is no server. `connected` as for `Health`.
    """

    def __init__(
        self,
        url: Callable[[], str],
        token: str,
        timeouts: Timeouts | None = None,
        connected: Callable[[float | None], object] = lambda _seconds: None,
    ) -> None:
        self.token = token
        self.timeouts = timeouts or Timeouts()
        self.health = Health(connected, self._trouble)
        self._url = url

    def __call__(self, request: StreamRequest) -> Upstream:
        stream = RevStream(self._url().rstrip("/"), self.token, request, self.health, self.timeouts)
        return Upstream(stream.start, stream.abort, b"".join, has_answered=lambda: stream.has_answered)

    def _trouble(self) -> str | None:
        try:
            self._url()
        except UpstreamClosed as ending:
            return ending.close.reason
        return None


def rev_engine(
    name: str, rev: RevEngine, running: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
) -> Engine:
    """Make an engine of Rev.ai's SDK. `running` starts and stops its server, if the server is our own."""
    return Engine(name, rev, CAPABILITIES, settled_by_final, rev.health, running)
