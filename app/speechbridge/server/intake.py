"""A session's audio on its way to the SDK: straight into its bridge, or through a decoder.

A decoder is a sync generator, so it has a bridge of its own, with a thread and bounded queues. What it decodes is
pumped into the SDK's bridge by a task. Back-pressure passes through both. So decoding never holds up the event loop or
another stream, and an SDK that takes no audio at the moment holds up its own client only.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.codecs import Decoder, decodes, kind_of
from speechbridge.protocol.request import BadRequest, ContentType
from speechbridge.protocol.signatures import FirstBytes
from speechbridge.tasks import cancel_and_wait
from syncbridge import Bridge, BridgeError, Broken, Closed, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from speechbridge.engines import Capabilities
    from speechbridge.protocol.request import StreamRequest
    from syncbridge import WorkerPool

# Bytes, one second of 16 kHz mono. The bridge counts chunks, 32 of them at most. This bounds the size of each, and
# so what waits there: a MiB, however large the client's messages are.
CHUNK = 2**15

# With many sessions, audio in short messages goes to the SDKs' threads in pieces of 100 ms: waking a thread costs as
# much as five more messages, and few recognizers respond more often than that.
COALESCE_FROM = 100  # sessions. With one fewer, messages of 20 ms take just under half a core
COALESCE_SECONDS = 0.1

DECODED = Limits(inbound=32, outbound=32, grace=1.0)  # what comes out has 100 ms at most: 3.2 s
LINGER = 0.02  # seconds. A decoder gives what one message holds in pieces, and an SDK need not be woken for each
LOOK = 0.5  # seconds between two looks at whether a decoder still finds sound


@dataclass(frozen=True)
class Owner:
    """What an intake needs of its session, and what it tells it."""

    pool: WorkerPool  # of the decoders' threads

    heard: Callable[[int], object]  # so many bytes of samples are about to go to the SDK
    refused: Callable[[BadRequest], object]  # the audio is none
    failed: Callable[[Exception], object]  # the decoder has a fault, or there is none free
    alive: Callable[[], int]  # sessions
    skip: int = 0  # bytes of samples, the first ones, that the SDK is not to get


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
        """Take the type of what the client sends, and of what the SDK gets."""
        self._bridge = bridge
        self._type = source
        self._owner = owner
        self._name = name
        self._skip = owner.skip
        # The first bytes are kept until they tell what they are.
        is_open = _is_open(source)
        self._begun: bytearray | None = bytearray() if is_open else None
        self._is_decoded = source != content_type and not is_open
        self._said = content_type if is_open else source
        self._first = FirstBytes(self._said)  # of samples: looked at on their way
        self._decoder: Bridge[bytes, bytes] | None = None
        self._reader: Decoder | None = None
        self._is_telling = self._has_ended = False
        self._received = 0  # bytes of samples
        # Bytes of what the SDK gets in one piece, and where the current one is full. 0: not known.
        self._piece = self._piece_end = int(COALESCE_SECONDS * (content_type.byte_rate or 0))
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def content_type(self) -> str:
        """What the audio is: as its first bytes tell, if they have; else as its client says, or its endpoint."""
        return (self._reader and self._reader.found) or str(self._said)

    async def __aenter__(self) -> Self:
        """Start the decoder, where it is known that there is to be one. Raises Overloaded."""
        if self._is_decoded:
            await self._decode()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the decoder, however far it is."""
        if self._next_look is not None:
            self._next_look.cancel()
        await cancel_and_wait(*self._tasks)
        await self._stack.aclose()

    async def send(self, audio: bytes) -> None:
        """Take some audio. What comes after the end, the client's or the SDK's, is dropped.

        Cancellation: some of it may have been taken.
        """
        if self._has_ended:
            return
        if self._begun is None:
            await self._take(audio)
        else:
            self._begun += audio
            await self._tell(is_all=False)

    def end(self) -> None:
        """Half-close: no more audio comes. Idempotent, never waits."""
        if self._begun and not (self._has_ended or self._is_telling):
            self._tasks.append(asyncio.create_task(self._finish(), name=f"{self._name}-first-bytes"))
        elif not (self._begun or self._is_telling):
            self._end()
        self._has_ended = True  # whoever tells what it is ends it then

    def _end(self) -> None:
        try:
            self._first.finish()
        except BadRequest as error:
            self._refuse(error)
        (self._decoder or self._bridge).end()

    # ---- what it is --------------------------------------------------------------------------------------------------

    async def _tell(self, *, is_all: bool) -> None:
        """Pass the first bytes on once it is known what they are."""
        kind = kind_of(bytes(self._begun or b""), is_all=is_all)
        if kind is None:
            return
        begun, self._begun, self._is_telling = bytes(self._begun or b""), None, True
        if kind:
            self._first = FirstBytes(self._type)  # these are no samples: there is nothing more to look at
            await self._decode()
        await self._take(begun)
        self._is_telling = False
        if self._has_ended:
            self.end()

    async def _finish(self) -> None:
        try:
            await self._tell(is_all=True)
        except Exception as error:  # noqa: BLE001 # as in `_pump`
            self._owner.failed(error)

    async def _take(self, audio: bytes) -> None:
        try:
            self._first.feed(audio)
        except BadRequest as error:
            self._has_ended = True
            self._refuse(error)
            return
        bridge, linger = self._decoder, 0.0
        if bridge is None:
            if self._skip and not (audio := self._unskipped(audio)):
                return
            self._received += len(audio)
            linger = self._linger()
            self._owner.heard(len(audio))
        try:
            for start in range(0, len(audio), CHUNK):  # an empty message makes no chunk
                await (bridge or self._bridge).send(audio[start : start + CHUNK], linger=linger)
        except (Closed, Broken):  # `suppress` is three calls, and this is for each message
            return

    def _unskipped(self, samples: bytes) -> bytes:
        """Return what is left of samples without those that are to be skipped."""
        skipped, self._skip = self._skip, max(0, self._skip - len(samples))
        return samples[skipped:]

    def _linger(self) -> float:
        """Return for how many seconds audio may wait for more: with many sessions, until a piece is full."""
        if self._received < self._piece_end:
            return COALESCE_SECONDS if self._owner.alive() >= COALESCE_FROM else 0.0
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
        self._decoder = await self._stack.enter_async_context(bridge)
        self._tasks.append(asyncio.create_task(self._pump(bridge), name=f"{self._name}-decoded"))
        self._look(decoder, bridge)

    async def _pump(self, decoder: Bridge[bytes, bytes]) -> None:
        """Give the SDK what is decoded, and its end."""
        try:
            async for decoded in decoder:
                if not (pcm := self._unskipped(decoded)):
                    continue
                self._owner.heard(len(pcm))
                await self._bridge.send(pcm, linger=LINGER)
        except BadRequest as error:
            self._refuse(error)
        except BridgeError:  # the SDK has ended: its responses say how
            decoder.cancel()
        except Exception as error:  # noqa: BLE001 # nothing is expected here, but without a pump the session would wait
            self._owner.failed(error)
        else:
            self._bridge.end()

    def _look(self, decoder: Decoder, bridge: Bridge[bytes, bytes]) -> None:
        """Refuse a stream that gives no sound, instead of waiting for more of it."""
        if bridge.outcome is not None:
            return
        if decoder.is_stalled():
            self._refuse(BadRequest("the stream is damaged, or no audio that we read: nothing in it can be heard"))
        else:
            self._next_look = asyncio.get_running_loop().call_later(LOOK, self._look, decoder, bridge)

    def _refuse(self, error: BadRequest) -> None:
        """Take no more; what was heard before is still answered."""
        if self._decoder is not None:
            self._decoder.cancel()
        self._bridge.end()
        self._owner.refused(error)


def asked_of(takes: Capabilities, request: StreamRequest) -> StreamRequest:
    """Return what an SDK is asked for: what the client sends, if it takes that, and else 16 kHz mono S16LE.

    What cannot be decoded either is left as it is: the engine refuses it, or its service judges.
    """
    kind = request.content_type
    if _is_open(kind):
        return replace(request, content_type=replace(kind, media=ContentType.RAW))
    return request if takes.takes(kind) or not decodes(kind) else replace(request, content_type=ContentType.raw())


def _is_open(content_type: ContentType) -> bool:
    """Tell whether audio may be raw samples as well as anything else."""
    return content_type.media == ContentType.UNDECLARED and content_type.rate is not None
