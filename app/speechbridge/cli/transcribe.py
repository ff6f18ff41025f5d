"""`speechbridge transcribe FILE...`: streams sound files to the service, and writes the transcripts as they arrive.

stdout gets the transcript and nothing else. A terminal also shows live captions, and a bar of the seconds sent. Ctrl-C
ends the input: the audio that was sent is still transcribed, and written. A second Ctrl-C exits at once.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from speechbridge.audio import RATE
from speechbridge.cli import exits
from speechbridge.cli.exits import FAILED, INTERRUPTED, WRONG, BadInput
from speechbridge.cli.local import Url, own_key, service
from speechbridge.cli.output import Quiet, Verbose, notice, say, write
from speechbridge.cli.recording import STDIN, Raw, Sound, sound_of
from speechbridge.cli.screen import Screen, minutes
from speechbridge.client.dial import NoConnection
from speechbridge.client.stream import Stream, StreamError, connect, live
from speechbridge.protocol import captions
from speechbridge.protocol.messages import Final, Partial
from speechbridge.protocol.request import ContentType, Option, StreamRequest

BYTES_A_SECOND = 2 * RATE
LAST_WORDS = 10.0  # seconds to wait for them after Ctrl-C. A guess: one or two are usual
RATES, CHANNELS = (8000, 192_000), (1, 10)  # of raw samples: the least and the most

cli = typer.Typer(rich_markup_mode=None, add_completion=False)


class Pace(StrEnum):
    REALTIME = "realtime"
    FAST = "fast"


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


WRITERS: dict[Format, Callable[[list[Final]], str]] = {
    Format.TEXT: captions.to_text,
    Format.JSON: captions.to_json,
    Format.SRT: captions.to_srt,
    Format.VTT: captions.to_vtt,
}
SUFFIXES = {Format.TEXT: ".txt", Format.JSON: ".json", Format.SRT: ".srt", Format.VTT: ".vtt"}


@dataclass(frozen=True, slots=True)
class Clock:
    """The time, and how to sleep. Tests have their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Job:
    """A file, and how to transcribe it."""

    path: Path
    target: Path | None  # None for stdout
    format: Format
    pace: Pace
    language: str | None
    raw: Raw | None = None

    @property
    def streams_text(self) -> bool:
        """Whether each final is written as soon as it arrives."""
        return self.target is None and self.format is Format.TEXT


async def transcribe(  # noqa: PLR0913 # most have defaults
    sound: Sound,
    url: str,
    *,
    received: Callable[[Partial | Final], None],
    sent: Callable[[float], None] = lambda _seconds: None,
    pace: Pace = Pace.REALTIME,
    language: str | None = None,
    clock: Clock = Clock(),
) -> None:
    """Stream a sound to the service at `url`, and call `received` with each message.

    `sent` is called with the seconds of audio sent so far. Returns when the transcript is complete. Raises NoConnection
    or StreamError when the service cannot be reached or breaks off; BadInput when the sound is damaged, after the
    transcript of what came before the damage.

    Cancellation: the stream is closed at once, its last words are lost. `sound.stop()` ends it gracefully.
    """
    options: dict[str, Option] = {"language": language} if language else {}
    async with connect(url, StreamRequest(ContentType.raw(RATE), options, own_key())) as stream:
        await live(stream, _send(sound, stream, sent, pace, clock), received)


async def _send(sound: Sound, stream: Stream, sent: Callable[[float], None], pace: Pace, clock: Clock) -> None:
    began = clock.now()
    seconds = 0.0
    blocks = sound.blocks()
    try:
        while (pcm := await _next(sound, blocks)) is not None:
            if not pcm:  # the resampler delays its first samples
                continue
            seconds += len(pcm) / BYTES_A_SECOND
            if pace is Pace.REALTIME:
                # Send a block when it would have been spoken, counted from the beginning: delays do not add up.
                await clock.sleep(max(0.0, began + seconds - clock.now()))
            await stream.send(pcm)
            sent(seconds)
    except Exception:  # usually a damaged file: end the input, so that the audio that was sent is still transcribed
        await stream.end()
        raise
    await stream.end()


async def _next(sound: Sound, blocks: Iterator[bytes]) -> bytes | None:
    """Return the next block; None after the last one."""
    if not sound.is_live:
        return next(blocks, None)
    reading = asyncio.ensure_future(asyncio.to_thread(next, blocks, None))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        sound.stop()  # ends the thread's read before the sound is closed
        await asyncio.gather(reading, return_exceptions=True)
        raise


@cli.command()
def command(  # noqa: PLR0913, PLR0917 # one for each option
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Sound files: WAV, FLAC, Ogg, MP3, AIFF, ...; - is stdin."),
    ],
    pace: Annotated[Pace, typer.Option(help="Send in real time, or as fast as the service takes it.")] = Pace.REALTIME,
    format: Annotated[  # noqa: A002 # it names the option
        Format, typer.Option(help="text is written line by line as it arrives, the others at the end of each file.")
    ] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each transcript to a file in DIR, not to stdout.")
    ] = None,
    url: Url = None,
    language: Annotated[
        str | None, typer.Option(help="Language that is spoken, as the service names it: en, fr, ...")
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=RATES[0], max=RATES[1], help="The files are raw S16LE samples with this sample rate."),
    ] = None,
    channels: Annotated[
        int, typer.Option(min=CHANNELS[0], max=CHANNELS[1], help="Channels of raw samples, which are interleaved.")
    ] = 1,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Transcribe sound files, one after the other, with live captions."""

    def action() -> int:
        raw = Raw(rate, channels) if rate is not None else None
        targets = _targets(files, format, output, raw)
        jobs = [Job(path, target, format, pace, language, raw) for path, target in zip(files, targets, strict=True)]
        return asyncio.run(_transcribe_all(jobs, service(url)))

    exits.run(action)


def _targets(
    files: list[Path],
    format: Format,  # noqa: A002
    output: Path | None,
    raw: Raw | None = None,
) -> list[Path | None]:
    """Return the file of each transcript, None for stdout. Raise BadInput now rather than after an hour of audio."""
    for path in files:
        sound = sound_of(path, raw)
        if not sound.is_live:  # a pipe can be read only once
            with sound:
                pass
    if output is None:
        if len(files) > 1 and format in (Format.SRT, Format.VTT):
            raise BadInput(f"{format} of several files needs a directory to write to: add --output DIR")
        return [None] * len(files)
    targets = [output / f"{'stdin' if path == STDIN else path.stem}{SUFFIXES[format]}" for path in files]
    for path, target in zip(files, targets, strict=True):
        if targets.count(target) > 1:
            raise BadInput(f"{path}: another file would be written to {target} too: transcribe them separately")
    if output.suffix in SUFFIXES.values() and not output.is_dir():
        raise BadInput(f"--output {output}: name the directory, not the file")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--output {output} is not a directory ({error.strerror}): choose another") from None
    if not os.access(output, os.W_OK):
        raise BadInput(f"--output {output} cannot be written to: choose another directory")
    return list(targets)


async def _transcribe_all(jobs: list[Job], url: AbstractAsyncContextManager[str]) -> int:
    """Transcribe the files in turn; return the exit code. Stop when the service fails, but not at a damaged file."""
    worst = 0
    async with url as base:
        for job in jobs:
            code = await _transcribe_one(job, base)
            worst = max(worst, code)
            if code not in (0, WRONG):
                return code
    return worst


async def _transcribe_one(job: Job, url: str) -> int:
    finals: list[Final] = []
    with sound_of(job.path, job.raw) as sound, Screen.on_stderr(sound.name, writes_finals=job.streams_text) as screen:

        def received(message: Partial | Final) -> None:
            screen.show(message)
            if isinstance(message, Final):
                finals.append(message)
                if job.streams_text:
                    with screen.hidden():
                        write(captions.to_text([message]))

        def sent(seconds: float) -> None:
            whole = f" / {minutes(sound.seconds)}" if sound.seconds else ""
            screen.bar(seconds / sound.seconds if sound.seconds else None, minutes(seconds) + whole)

        sent(0.0)
        streaming = asyncio.create_task(
            transcribe(sound, url, received=received, sent=sent, pace=job.pace, language=job.language)
        )
        try:
            trouble, code = await _wait_for(streaming, sound)
        except asyncio.CancelledError:  # by a second Ctrl-C
            await asyncio.gather(streaming, return_exceptions=True)
            trouble, code = f"{sound.name}: interrupted", INTERRUPTED
    _finish(job, finals, trouble)
    return code


async def _wait_for(streaming: asyncio.Task[None], sound: Sound) -> tuple[str, int]:
    """Wait for the whole transcript; return what went wrong, and the exit code. The first Ctrl-C ends the input."""
    try:
        try:
            await asyncio.shield(streaming)
        except asyncio.CancelledError:
            sound.stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await streaming
            return f"{sound.name}: interrupted", INTERRUPTED
    except (NoConnection, StreamError) as error:
        return f"{sound.name}: {error}", FAILED
    except BadInput as error:
        return str(error), WRONG
    return "", 0


def _finish(job: Job, finals: list[Final], trouble: str) -> None:
    """Write the transcript; if it is not complete, report up to which second it goes."""
    is_whole = not trouble
    if not job.streams_text and (finals or is_whole):  # an empty transcript must not overwrite an earlier one
        transcript = WRITERS[job.format](finals)
        if job.target:
            try:
                _write(job.target, transcript)
            except BadInput:
                write(transcript)  # it took as long as the audio: do not lose it
                raise
        else:
            write(transcript)
    if trouble:
        say(f"{trouble} (transcribed up to {finals[-1].end_ts:.1f} s)" if finals else trouble)
    elif job.target:
        notice(f"{job.path}: transcript written to {job.target}")


def _write(target: Path, text: str) -> None:
    """Write a file completely or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        why = f"{target} cannot be written ({error.strerror})"
        raise BadInput(f"{why}: the transcript went to stdout; choose another --output") from None
