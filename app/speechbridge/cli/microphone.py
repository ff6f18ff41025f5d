"""`speechbridge mic`: transcribes the microphone, with live captions and its level. The only import of sounddevice.

PortAudio delivers each block in a thread of its own, which must never wait: the block goes into a bounded queue, or is
counted as lost if the queue is full. Everything else happens in the event loop.

stdout gets the transcript and nothing else. Ctrl-C ends the input, and the command waits for the last words; a second
Ctrl-C exits at once.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Protocol, Self

import typer

from speechbridge.audio import RATE, Converter, loudness
from speechbridge.cli import exits
from speechbridge.cli.exits import FAILED, BadInput
from speechbridge.cli.local import Url, own_key, service
from speechbridge.cli.output import Quiet, Verbose, say, write
from speechbridge.cli.screen import Screen, minutes
from speechbridge.client.dial import NoConnection
from speechbridge.client.stream import Stream, StreamError, connect, live
from speechbridge.protocol import captions
from speechbridge.protocol.messages import Final, Partial
from speechbridge.protocol.request import ContentType, Option, StreamRequest

BLOCK = 0.1  # seconds of sound that PortAudio delivers at once
QUEUE = 50  # blocks: the service may stall for 5 s; 480 kB at 48 kHz
LAST_WORDS = 10.0  # seconds to wait for them after Ctrl-C. A guess: one or two are usual
QUIET = -60.0  # dBFS: the lower end of the meter

cli = typer.Typer(rich_markup_mode=None, add_completion=False)


class NoMicrophone(BadInput):
    """The microphone gives no sound. The text says why, and what to do."""


class Input(Protocol):
    """The part of `sounddevice.RawInputStream` that is used here."""

    @property
    def samplerate(self) -> float: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Status(Protocol):
    """The part of `sounddevice.CallbackFlags` that is used here."""

    @property
    def input_overflow(self) -> bool: ...


Take = Callable[[memoryview, int, object, Status], None]
Open = Callable[[Take, Callable[[], None]], Input]
"""Opens an input of mono S16LE. Takes a function for each block, and one to call after the last block."""


class Microphone:
    """The blocks of sound of an input: an async iterator for one task, within a `with`.

    The iteration stops after `end()` and the blocks recorded before it. It raises NoMicrophone when the device
    disappears.

    Cancellation of the iteration: no block is lost.
    """

    def __init__(self, open_input: Open) -> None:
        """Open the input, in a running event loop. Raises what `open_input` raises."""
        self._loop = asyncio.get_running_loop()
        self._blocks: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._ended = self._gone = False
        self._lost = 0  # samples
        self.gaps = 0  # how often the device itself lost sound; how much is not known
        self._input = open_input(self._take, self._finish)
        self.rate = round(self._input.samplerate)

    @property
    def lost(self) -> float:
        """The seconds of sound that were lost because the queue was full."""
        return self._lost / self.rate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._input.stop()
        self._input.close()

    def start(self) -> None:
        """Start recording, unless `end` was called before. Raises NoMicrophone."""
        if self._ended:
            return
        try:
            self._input.start()
        except Exception as error:  # noqa: BLE001 # PortAudioError, which cannot be imported without PortAudio
            raise NoMicrophone(f"the microphone does not start ({error}): choose another, see --list") from None

    def end(self) -> None:
        """Stop recording. Idempotent."""
        self._input.stop()
        self._ended = True
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._blocks:
            if self._ended:
                raise StopAsyncIteration
            if self._gone:
                raise NoMicrophone("the microphone has disappeared: connect it again")
            # A block that arrives just now is not missed: the loop calls `set` after this `clear`.
            self._arrived.clear()
            await self._arrived.wait()
        return self._blocks.popleft()

    def _take(self, block: memoryview, samples: int, _time: object, status: Status) -> None:
        """Queue a block. Runs in PortAudio's thread, the only one that appends."""
        self.gaps += status.input_overflow
        if len(self._blocks) >= QUEUE:
            self._lost += samples
            return
        self._blocks.append(bytes(block))
        self._loop.call_soon_threadsafe(self._arrived.set)  # the bounded queue bounds these calls, too

    def _finish(self) -> None:
        """Note that no more blocks will come. Runs in PortAudio's thread."""
        self._loop.call_soon_threadsafe(self._set_gone)

    def _set_gone(self) -> None:
        self._gone = True
        self._arrived.set()


async def caption(
    microphone: Microphone,
    url: str,
    *,
    received: Callable[[Partial | Final], None],
    level: Callable[[float, float], None] = lambda _level, _seconds: None,
    language: str | None = None,
) -> None:
    """Stream a microphone to the service at `url` until its `end()`, and call `received` with each message.

    `level` is called for each block with its loudness, 0 to 1, and the seconds recorded so far. Returns when the
    transcript is complete. Raises NoConnection or StreamError when the service cannot be reached or breaks off;
    NoMicrophone when the device disappears, after the transcript of what came before.

    Cancellation: the stream is closed at once, its last words are lost.
    """
    options: dict[str, Option] = {"language": language} if language else {}
    async with connect(url, StreamRequest(ContentType.raw(RATE), options, own_key())) as stream:
        microphone.start()
        await live(stream, _send(microphone, stream, level), received)


async def _send(microphone: Microphone, stream: Stream, level: Callable[[float, float], None]) -> None:
    converter = Converter(microphone.rate)
    seconds = 0.0
    try:
        async for block in microphone:
            seconds += len(block) / 2 / microphone.rate
            level(_level(block), seconds)
            if pcm := converter.feed(block):  # the resampler delays its first samples
                await stream.send(pcm)
    except NoMicrophone:  # end the input, so that the audio that was sent is still transcribed
        await stream.end()
        raise
    if pcm := converter.finish():
        await stream.send(pcm)
    await stream.end()


def _level(pcm: bytes) -> float:
    decibels = 20 * math.log10(max(loudness(pcm), 1) / 32768)
    return max(0.0, 1 - decibels / QUIET)


@cli.command()
def command(
    device: Annotated[
        str | None,
        typer.Option(help="Microphone: its number in --list, or a part of its name; by default the system's choice."),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Language that is spoken, as the service names it: en, fr, ...")
    ] = None,
    url: Url = None,
    list_: Annotated[bool, typer.Option("--list", help="List the microphones, and do nothing else.")] = False,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Transcribe the microphone, with live captions, until Ctrl-C."""
    if list_:
        exits.run(lambda: write(_listing()))
    else:
        exits.run(lambda: asyncio.run(_run(_device(device), service(url), language)))


async def _run(open_input: Open, url: AbstractAsyncContextManager[str], language: str | None) -> int:
    """Caption until Ctrl-C, which arrives as a cancellation; return the exit code."""
    trouble = ""
    with Microphone(open_input) as microphone:
        async with url as base:
            try:
                await _converse(microphone, base, language)
            except (NoConnection, StreamError) as error:
                trouble = str(error)
            except TimeoutError:
                trouble = f"the last words did not arrive within {LAST_WORDS:g} s: try again later"
    if microphone.lost:
        say(f"{microphone.lost:.1f} s of sound were lost: the service, or the connection to it, is too slow")
    if microphone.gaps:
        say(f"the device lost sound {microphone.gaps} times: this machine is too busy")
    if trouble:
        say(trouble)
    return FAILED if trouble else 0


async def _converse(microphone: Microphone, url: str, language: str | None) -> None:
    with Screen.on_stderr("speak, Ctrl-C ends it", writes_finals=True) as screen:

        def received(message: Partial | Final) -> None:
            screen.show(message)
            if isinstance(message, Final):
                with screen.hidden():
                    write(captions.to_text([message]))

        def level(level: float, seconds: float) -> None:
            lost = f", {microphone.lost:.1f} s lost" if microphone.lost else ""
            screen.bar(level, minutes(seconds) + lost)

        captioning = asyncio.create_task(caption(microphone, url, received=received, level=level, language=language))
        try:
            await asyncio.shield(captioning)
        except asyncio.CancelledError:  # the first Ctrl-C; asyncio turns the second into a KeyboardInterrupt
            microphone.end()
            async with asyncio.timeout(LAST_WORDS):
                await captioning


def _portaudio() -> Any:
    try:
        import sounddevice  # type: ignore[import-untyped] # noqa: PLC0415 # ships no types; only we need PortAudio
    except OSError:
        raise NoMicrophone("PortAudio is missing: install it, with apt-get install libportaudio2 for example") from None
    return sounddevice


def _inputs() -> list[dict[str, Any]]:
    found = [device for device in _portaudio().query_devices() if device["max_input_channels"]]
    if not found:
        raise NoMicrophone("there is no microphone: connect one, or use transcribe FILE")
    return found


def _listing() -> str:
    return "".join(
        f"{device['index']:3}  {captions.printable(device['name'])}, {device['default_samplerate']:.0f} Hz\n"
        for device in _inputs()
    )


def _device(wanted: str | None) -> Open:
    """Return what opens a microphone: by its number, by a part of its name, or the system's choice."""
    sounddevice = _portaudio()
    errors = (ValueError, sounddevice.PortAudioError)
    _inputs()

    def open_input(take: Take, finish: Callable[[], None]) -> Input:
        try:
            info = sounddevice.query_devices(int(wanted) if wanted and wanted.isdecimal() else wanted, "input")
            rate = info["default_samplerate"]
            opened: Input = sounddevice.RawInputStream(
                device=info["index"],
                samplerate=rate,
                channels=1,
                dtype="int16",
                blocksize=round(rate * BLOCK),
                callback=take,
                finished_callback=finish,
            )
        except errors as error:
            raise NoMicrophone(f"the microphone cannot be used ({error}): choose another, see --list") from None
        return opened

    return open_input
