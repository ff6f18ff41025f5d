"""A stream over gRPC: one call, made, watched while it connects, cancelled, and judged. The only import of grpc.

Google's and NVIDIA's SDKs are thin layers over it. What was measured of it, and what is done about it here:

- A call waits for its channel to connect for as long as that takes: here that has a timeout, and can be cancelled.
- A channel that failed waits up to two minutes before it tries again: here a second at most.
- It takes input without a bound, so what was given was not heard: nothing is settled but by a final.
- The thread that takes the input logs whatever it raises, and the call goes on: our input raises nothing.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.grpc_status import no_success, too_late
from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.engines.grpc_channels import Channel, Channels
    from speechbridge.engines.health import Health

KEEPALIVE_SECONDS = 30  # as Google's own Pub/Sub client has it; servers refuse pings that come much more often
BY_NUMBER = {status.value[0]: status.name for status in grpc.StatusCode}
_CONNECTED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)


def options(connect_seconds: float) -> list[tuple[str, int]]:
    """Return the options of a channel that finds out about a dead peer, and connects again without long pauses."""
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.min_reconnect_backoff_ms", int(connect_seconds * 1000)),  # the timeout of an attempt, whatever its name
        ("grpc.use_local_subchannel_pool", 1),  # or all channels to one address share one connection
    ]


def insecure(target: str, connect_seconds: float) -> Any:
    """Make a channel without encryption, for an emulator or a server nearby. No proxy of the environment is asked."""
    return grpc.insecure_channel(target, [*options(connect_seconds), ("grpc.enable_http_proxy", 0)])


class Call:
    """One stream: one call, never made again.

    `begin` makes it with a client and the audio; `read` makes our messages of a response. `secret` is in no log.
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
                if self._is_aborted:  # before there was anything to cancel
                    call.cancel()
                for response in call:
                    yield from self._read(response)
            except Exception as error:  # gRPC's own, or an SDK's with it as its cause
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
        """Return what to raise for a status."""
        if self._secret:
            details = details.replace(self._secret, "...")
        return no_success(status, details, self._health, self._connect_seconds)

    def _connect(self, channel: Channel) -> None:
        """Wait until the channel has connected, or has failed to: then the call fails at once, and tells why."""
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
            raise too_late(self._health, self._connect_seconds)
        self._health.has_connected = self._health.has_connected or channel.is_connected

    def _on_state(self, state: Any) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
