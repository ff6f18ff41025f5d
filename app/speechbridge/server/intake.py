"""A session's audio on its way to the SDK: directly into the SDK's bridge, or through a decoder.

A decoder is a sync generator, so it has a bridge of its own, with a thread and bounded queues. A task pumps the decoded
audio into the SDK's bridge. Back-pressure passes through both. So decoding never delays the event loop or another
stream, and an SDK that stops taking audio delays only its own client.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.codecs import Decoder, decodes, kind_of
from speechbridge.protocol.request import BadRequest, ContentType
from speechbridge.protocol.signatures import FirstBytes
from speechbridge.server.sending import Sender
from speechbridge.tasks import cancel_and_wait
from syncbridge import Bridge, BridgeError, Broken, Closed, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from speechbridge.engines import Capabilities
    from speechbridge.protocol.request import StreamRequest
    from speechbridge.server.settling import Before
    from syncbridge import WorkerPool

# With many sessions, audio in short messages goes to the SDKs' threads in pieces of 100 ms, as few recognizers respond
# more often than that.
COLLECT_FROM = 100  # sessions. With one fewer, messages of 20 ms take just under half a core
PIECE_SECONDS = 0.1

DECODED = Limits(inbound=32, outbound=32, grace=1.0)  # a decoded piece has at most 100 ms, so this is 3.2 s of audio
DECODED_HOLD = 0.02  # seconds. A decoder turns one message into several pieces; an SDK need not be woken for each
CHECK_SECONDS = 0.5  # between two checks whether a decoder still finds audio


@dataclass(frozen=True)
class Owner:
    """What an intake needs from its session, and the callbacks with which it reports to it."""

    pool: WorkerPool  # of the decoders' threads

    taken: Callable[[int], object]  # called with the number of bytes of samples that are about to go to the SDK
    refused: Callable[[BadRequest], object]  # called if the data is not audio that can be decoded
    failed: Callable[[Exception], object]  # called if the decoder fails, or none is free
    alive: Callable[[], int]  # returns the number of sessions
    before: Before


class Intake:
    """Takes a client's audio, inside the `async with` of its bridge."""

    def __init__(
        self,
        bridge: Bridge[bytes, str],
        source: ContentType,
        content_type: ContentType,
        owner: Owner,
        *,
        name: str,
    ) -> None:
        """Take the type of the client's audio, `source`, and of the audio for the SDK, `content_type`."""
        self._to_sdk = Sender(bridge)
        self._type = source
        self._owner = owner
        self._name = name
        self._skip = owner.before.skip
        # The first bytes are kept until the format is identified.
        is_open = _is_open(source)
        self._begun: bytearray | None = bytearray() if is_open else None
        self._is_decoded = source != content_type and not is_open
        self._declared = content_type if is_open else source
        self._first = FirstBytes(self._declared)  # checks that declared samples are samples, without delaying them
        self._is_checked = owner.before.begin == 0  # from the middle of a stream on, samples may look like anything
        self._decoder: Bridge[bytes, bytes] | None = None
        self._to_decoder: Sender | None = None
        self._reader: Decoder | None = None
        self._is_identifying = self._has_ended = False
        self._received = 0  # bytes of samples
        # Bytes of one piece for the SDK, and the position where the current piece is full. 0: unknown.
        self._piece = self._piece_end = int(PIECE_SECONDS * (content_type.byte_rate or 0))
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._next_check: asyncio.TimerHandle | None = None

    @property
    def content_type(self) -> str:
        """The audio's type: detected from its first bytes, if that has happened; else declared by the client."""
        return (self._reader and self._reader.found) or str(self._declared)

    async def __aenter__(self) -> Self:
        """Start the decoder, if it is known already that one is needed. Raises Overloaded."""
        if self._is_decoded:
            await self._decode()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the decoder at once."""
        if self._next_check is not None:
            self._next_check.cancel()
        await cancel_and_wait(*self._tasks)
        self._to_sdk.close()
        await self._stack.aclose()

    async def send(self, audio: bytes) -> None:
        """Take some audio. Audio after the end of the input, or after the SDK has ended, is dropped.

        Cancellation: some of it may have been taken.
        """
        if self._has_ended:
            return
        if self._begun is None:
            await self._take(audio)
        else:
            self._begun += audio
            await self._identify(is_all=False)

    def end(self) -> None:
        """Half-close: there will be no more audio. Idempotent, never waits."""
        if self._begun and not (self._has_ended or self._is_identifying):
            self._tasks.append(asyncio.create_task(self._finish(), name=f"{self._name}-first-bytes"))
        elif not (self._begun or self._is_identifying):
            self._end()
        self._has_ended = True  # if the format is being identified, that ends the input afterwards

    def _end(self) -> None:
        try:
            self._first.finish()
        except BadRequest as error:
            self._refuse(error)
        (self._to_decoder or self._to_sdk).end()

    # ---- the format --------------------------------------------------------------------------------------------------

    async def _identify(self, *, is_all: bool) -> None:
        """Identify the format from the first bytes, if there are enough of them; then pass them on."""
        kind = kind_of(bytes(self._begun or b""), is_all=is_all)
        if kind is None:
            return
        begun, self._begun, self._is_identifying = bytes(self._begun or b""), None, True
        if kind:
            self._first = FirstBytes(self._type)  # not samples: no further check
            await self._decode()
        await self._take(begun)
        self._is_identifying = False
        if self._has_ended:
            self.end()

    async def _finish(self) -> None:
        try:
            await self._identify(is_all=True)
        except Exception as error:  # noqa: BLE001 # as in `_pump`
            self._owner.failed(error)

    async def _take(self, audio: bytes) -> None:
        try:
            if self._is_checked:
                self._first.feed(audio)
        except BadRequest as error:
            self._has_ended = True
            self._refuse(error)
            return
        sender, hold = self._to_decoder, 0.0
        if sender is None:
            if self._skip and not (audio := self._unskipped(audio)):
                return
            self._received += len(audio)
            sender, hold = self._to_sdk, self._hold()
            self._owner.taken(len(audio))
        try:
            await sender.send(audio, hold)
        except (Closed, Broken):  # `suppress` is three calls, and this is for each message
            return

    def _unskipped(self, samples: bytes) -> bytes:
        """Return the samples without those that are to be skipped."""
        skipped, self._skip = self._skip, max(0, self._skip - len(samples))
        return samples[skipped:]

    def _hold(self) -> float:
        """Return for how many seconds audio may be held back: with many sessions, until a piece is full."""
        if self._received < self._piece_end:
            return PIECE_SECONDS if self._owner.alive() >= COLLECT_FROM else 0.0
        if self._piece:
            self._piece_end = self._received - self._received % self._piece + self._piece
        return 0.0

    # ---- the decoder -------------------------------------------------------------------------------------------------

    async def _decode(self) -> None:
        decoder = self._reader = Decoder(self._type)

        def start(audio: Iterator[bytes]) -> Iterator[bytes]:
            for chunk in audio:
                yield from decoder.feed(chunk)
            yield from decoder.finish()

        bridge: Bridge[bytes, bytes] = Bridge(
            start, join=b"".join, limits=DECODED, pool=self._owner.pool, name=f"{self._name}-decoder"
        )
        await self._stack.enter_async_context(bridge)
        self._decoder, self._to_decoder = bridge, Sender(bridge)
        self._tasks.append(asyncio.create_task(self._pump(bridge), name=f"{self._name}-decoded"))
        self._check_for_sound(decoder, bridge)

    async def _pump(self, decoder: Bridge[bytes, bytes]) -> None:
        """Send decoded audio to the SDK, then end its input."""
        try:
            async for decoded in decoder:
                if not (pcm := self._unskipped(decoded)):
                    continue
                self._owner.taken(len(pcm))
                await self._to_sdk.send(pcm, DECODED_HOLD)
        except BadRequest as error:
            self._refuse(error)
        except BridgeError:  # the SDK has ended: the reader of its responses learns how
            decoder.cancel()
        except Exception as error:  # noqa: BLE001 # nothing is expected here, but without a pump the session would wait
            self._owner.failed(error)
        else:
            self._to_sdk.end()

    def _check_for_sound(self, decoder: Decoder, bridge: Bridge[bytes, bytes]) -> None:
        """Refuse a stream from which no audio can be decoded, instead of waiting for more of it."""
        if bridge.outcome is not None:
            return
        if decoder.is_stalled():
            self._refuse(BadRequest("the stream is damaged, or no audio that we read: nothing in it can be heard"))
        else:
            loop = asyncio.get_running_loop()
            self._next_check = loop.call_later(CHECK_SECONDS, self._check_for_sound, decoder, bridge)

    def _refuse(self, error: BadRequest) -> None:
        """Take no more audio. Audio that was taken before is still answered."""
        if self._decoder is not None:
            self._decoder.cancel()
        self._to_sdk.end()
        self._owner.refused(error)


def asked_of(takes: Capabilities, request: StreamRequest) -> StreamRequest:
    """Return the request for an SDK: with the client's format, if the SDK accepts it, else with 16 kHz mono S16LE.

    A format that cannot be decoded is left as it is: the engine or its speech service may refuse it.
    """
    kind = request.content_type
    if _is_open(kind):
        return replace(request, content_type=replace(kind, media=ContentType.RAW))
    return request if takes.takes(kind) or not decodes(kind) else replace(request, content_type=ContentType.raw())


def _is_open(content_type: ContentType) -> bool:
    """Tell whether the format is undeclared, and the audio may also be raw samples."""
    return content_type.media == ContentType.UNDECLARED and content_type.rate is not None
