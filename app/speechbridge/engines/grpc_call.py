"""One stream over gRPC is one call: this module makes it, bounds its connect, cancels it and translates its end.

The only import of grpc. Google's and NVIDIA's SDKs are thin layers over it. Observed flaws, and what this module does
about them:

- A call waits without limit for its channel to connect: here the wait has a timeout, and can be cancelled.
- A channel that failed waits up to two minutes before it reconnects: here a second at most.
- A call takes any amount of input ahead, so audio that it took may not have reached the service: only finals settle it.
- The thread that reads the input logs an exception of the input, and the call continues: our input raises none.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.grpc_status import call_failed, connect_timed_out
from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.engines.grpc_channels import Channel, Channels
    from speechbridge.engines.health import Health

KEEPALIVE_SECONDS = 30  # as in Google's own Pub/Sub client; servers reject pings that are much more frequent
BY_NUMBER = {status.value[0]: status.name for status in grpc.StatusCode}
_CONNECTED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)


def options(connect_seconds: float) -> list[tuple[str, int]]:
    """Return the options of a channel that detects a dead peer, and reconnects without long pauses."""
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.min_reconnect_backoff_ms", int(connect_seconds * 1000)),  # despite its name: the timeout of one connect
        ("grpc.use_local_subchannel_pool", 1),  # otherwise all channels to one address share one connection
    ]


def insecure(target: str, connect_seconds: float) -> Any:
    """Make a channel without encryption, for an emulator or a server nearby. It ignores the environment's proxy."""
    return grpc.insecure_channel(target, [*options(connect_seconds), ("grpc.enable_http_proxy", 0)])


class Call:
    """One stream: one call, never repeated.

    `begin` makes the call with a client and the audio; `read` turns a response into our messages. `secret` is removed
    from error texts and logs.
    """

    def __init__(  # noqa: PLR0913, PLR0917 # all that a call depends on
        self,
        channels: Channels,
        health: Health,
        connect_seconds: float,
        begin: Callable[[Any, Iterator[bytes]], Any],
        read: Callable[[Any], Iterable[str]],
        secret: str = "",
    ) -> None:
        self._channels = channels
        self._health = health
        self._connect_seconds = connect_seconds
        self._begin = begin
        self._read = read
        self._secret = secret
        self._changed = threading.Condition()
        self._state: Any = None  # of the channel
        self._is_aborted = False
        self._call: Any = None

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        """Make the call, and yield its messages. Raises UpstreamClosed for every end that is no success."""
        with self._channels.lease() as channel:
            self._connect(channel)
            try:
                call = self._call = self._begin(channel.client, audio)
                if self._is_aborted:  # before `_call` was set
                    call.cancel()
                for response in call:
                    yield from self._read(response)
            except Exception as error:  # gRPC's own, or an SDK's with gRPC's as its cause
                status = next((found for found in (error, error.__cause__) if isinstance(found, grpc.RpcError)), None)
                if status is None:
                    raise
                channel.is_connected = channel.is_connected and status.code() is not grpc.StatusCode.UNAVAILABLE
                raise self.ended(status.code().name, str(status.details())) from None
            finally:
                if self._call is not None:
                    self._call.cancel()

    def abort(self) -> None:
        """Cancel the call, now or as soon as there is one. Thread-safe."""
        with self._changed:
            self._is_aborted = True
            self._changed.notify_all()
        if self._call is not None:
            self._call.cancel()

    def ended(self, status: str, details: str) -> UpstreamClosed:
        """Return the exception to raise for a status."""
        if self._secret:
            details = details.replace(self._secret, "...")
        return call_failed(status, details, self._health, self._connect_seconds)

    def _connect(self, channel: Channel) -> None:
        """Wait until the channel has connected or failed. If it failed, the call fails at once, with the reason."""
        if channel.is_connected:
            return
        begun = time.perf_counter()
        channel.grpc.subscribe(self._on_state, try_to_connect=True)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._is_aborted or self._state in _CONNECTED, self._connect_seconds)
        finally:
            channel.grpc.unsubscribe(self._on_state)
        channel.is_connected = self._state is grpc.ChannelConnectivity.READY
        if self._is_aborted:
            raise UpstreamClosed(Close(CloseCode.ABNORMAL, "the stream was aborted"))
        self._health.connected(time.perf_counter() - begun if channel.is_connected else None)
        if self._state not in _CONNECTED:
            raise connect_timed_out(self._health, self._connect_seconds)
        self._health.has_connected = self._health.has_connected or channel.is_connected

    def _on_state(self, state: Any) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
