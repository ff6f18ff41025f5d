"""`speechbridge transcribe FILE...`: a file is played to the service as if it were spoken, and written as it is heard.

stdout gets the transcript and nothing else; for the eye there are captions as they grow, and a bar of the seconds sent.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import soundfile
import typer

from speechbridge.audio import RATE, Converter
from speechbridge.cli import captions
from speechbridge.cli.local import local_service, own_key
from speechbridge.cli.screen import INTERRUPTED, Screen, minutes, say, write
from speechbridge.client.stream import NoConnection, Stream, StreamError, connect, live
from speechbridge.protocol.messages import Final, Partial
from speechbridge.protocol.request import ContentType, Option, StreamRequest

BLOCK = 0.1  # seconds of audio that are read and sent at once
BYTES_A_SECOND = 2 * RATE
SHORTFALL = 1.0  # seconds a file may be shorter than it says: some MP3s only guess their length


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


class BadInput(Exception):
    """A file or an option that cannot be used. Its text names it, and the cure."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The time, and the way to let it pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Job:
    """A file, and what is to become of it."""

    path: Path
    target: Path | None  # None for stdout
    format: Format
    pace: Pace
    language: str | None

    @property
    def as_it_comes(self) -> bool:
        """Whether each final is written at once."""
        return self.target is None and self.format is Format.TEXT


class _Forwards(soundfile.SoundFile):  # type: ignore[misc] # soundfile ships no types
    """A sound file that is never sought in: soundfile does so after each read, and holes an MP3 by it."""

    def seekable(self) -> bool:
        return False


class Recording:
    """A sound file of any kind that libsndfile reads, as 16 kHz mono S16LE.

    Only one block is in memory. Reading is done where it is called: a block of compressed audio takes well under a
    millisecond.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; raise BadInput if it is none or holds no audio."""
        self.path = path
        try:
            size = path.stat().st_size
            if not path.is_file():  # a pipe would be waited for
                raise BadInput(f"{path}: not a file: name a sound file")
            path.open("rb").close()  # libsndfile would call every trouble a system error
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}: name a sound file") from None
        if size == 0:
            raise BadInput(f"{path}: it is empty: name a sound file")
        try:
            self._file = _Forwards(path)
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: raw samples, by the file's name
            why = getattr(error, "error_string", "it has no header").rstrip(".")
            raise BadInput(f"{path}: no audio can be read from it ({why}): convert it to WAV or FLAC") from None
        self.seconds = self._file.frames / self._file.samplerate
        if not self._file.frames:
            self._file.close()
            raise BadInput(f"{path}: it holds no audio")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def blocks(self) -> Iterator[bytes]:
        """Yield the audio; raise BadInput where the file is damaged."""
        rate = self._file.samplerate
        converter = Converter(rate, self._file.channels)
        frames = max(1, round(BLOCK * rate))
        done = 0
        try:
            # Floats, as libsndfile does not scale those of a float file to integers.
            while len(block := self._file.read(frames, dtype="float32")):
                done += len(block)
                block[block != block] = 0  # noqa: PLR0124 # what is not a number is no sound
                yield converter.feed((block * 32768).round().clip(-32768, 32767).astype("<i2").tobytes())
        except soundfile.LibsndfileError as error:
            raise BadInput(
                f"{self.path}: damaged after {done / rate:.1f} s ({error.error_string.rstrip('.')})"
            ) from None
        yield converter.finish()
        if self.seconds - done / rate > SHORTFALL:
            raise BadInput(
                f"{self.path}: ends after {done / rate:.1f} s, though it says {self.seconds:.1f} s: "
                "it is cut off or damaged",
            )


async def transcribe(  # noqa: PLR0913 # what may be left out has its default
    recording: Recording,
    url: str,
    *,
    heard: Callable[[Partial | Final], None],
    sent: Callable[[float], None] = lambda _seconds: None,
    pace: Pace = Pace.REALTIME,
    language: str | None = None,
    clock: Clock = Clock(),
) -> None:
    """Play a recording to the service at `url`, and hand over each message as it comes.

    `sent` is told the seconds of audio sent so far. Returns when all was heard. Raises NoConnection or StreamError
    when the service cannot be reached or breaks off; BadInput when the file turns out to be damaged: what came
    before is then heard to its end first.

    Cancellation: the stream is closed at once, its last words are lost.
    """
    options: dict[str, Option] = {"language": language} if language else {}
    async with connect(url, StreamRequest(ContentType.raw(RATE), options, own_key())) as stream:
        await live(stream, _send(recording, stream, sent, pace, clock), heard)


async def _send(recording: Recording, stream: Stream, sent: Callable[[float], None], pace: Pace, clock: Clock) -> None:
    began = clock.now()
    seconds = 0.0
    try:
        for pcm in filter(None, recording.blocks()):  # a resampler holds its first samples back
            seconds += len(pcm) / BYTES_A_SECOND
            if pace is Pace.REALTIME:
                # When it has been spoken, by a schedule from the beginning: delays do not add up.
                await clock.sleep(max(0.0, began + seconds - clock.now()))
            await stream.send(pcm)
            sent(seconds)
    except Exception:  # a damaged file above all: what was sent of it is heard to its end, then this is told
        await stream.end()
        raise
    await stream.end()


@asynccontextmanager
async def _remote(url: str) -> AsyncIterator[str]:
    yield url


def command(  # noqa: PLR0913, PLR0917 # one for each option
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sound files: WAV, FLAC, Ogg, MP3, AIFF, ...")],
    pace: Annotated[Pace, typer.Option(help="as if it were spoken now, or as fast as the service takes it")] = (
        Pace.REALTIME
    ),
    format: Annotated[  # noqa: A002 # it names the option
        Format, typer.Option(help="text comes line by line as it is heard, the others at the end of each file")
    ] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write FILE's transcript to DIR, not to stdout")
    ] = None,
    url: Annotated[str | None, typer.Option(help="service to use, ws://host:port; without it, the local one")] = None,
    language: Annotated[str | None, typer.Option(help="language spoken, as the service names it: en, fr, ...")] = None,
) -> None:
    """Transcribe sound files, one after the other, with live captions."""
    try:
        targets = _targets(files, format, output)
        jobs = [Job(path, target, format, pace, language) for path, target in zip(files, targets, strict=True)]
        code = asyncio.run(_transcribe_all(jobs, _remote(url) if url else local_service()))
    except BadInput as error:
        say(str(error))
        code = 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


def _targets(files: list[Path], format: Format, output: Path | None) -> list[Path | None]:  # noqa: A002
    """Return where each transcript goes, None for stdout. Raise BadInput now rather than after an hour of audio."""
    for path in files:
        with Recording(path):
            pass
    if output is None:
        if len(files) > 1 and format in (Format.SRT, Format.VTT):
            raise BadInput(f"{format} of several files needs a directory to write to: add --output DIR")
        return [None] * len(files)
    targets = [output / f"{path.stem}{SUFFIXES[format]}" for path in files]
    for path, target in zip(files, targets, strict=True):
        if targets.count(target) > 1:
            raise BadInput(f"{path}: another file would be written to {target} too: transcribe them separately")
    if output.suffix in SUFFIXES.values() and not output.is_dir():
        raise BadInput(f"--output {output}: name the directory, not the file")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--output {output} is no directory ({error.strerror}): choose another") from None
    if not os.access(output, os.W_OK):
        raise BadInput(f"--output {output} cannot be written to: choose another directory")
    return list(targets)


async def _transcribe_all(jobs: list[Job], service: AbstractAsyncContextManager[str]) -> int:
    """Transcribe one file after the other until one fails; return the exit code."""
    async with service as url:
        for job in jobs:
            code = await _transcribe_one(job, url)
            if code:
                return code
    return 0


async def _transcribe_one(job: Job, url: str) -> int:
    finals: list[Final] = []
    try:
        with Recording(job.path) as recording, Screen.on_stderr(job.path.name, writes_finals=job.as_it_comes) as screen:

            def heard(message: Partial | Final) -> None:
                screen.heard(message)
                if isinstance(message, Final):
                    finals.append(message)
                    if job.as_it_comes:
                        with screen.aside():
                            write(captions.to_text([message]))

            def sent(seconds: float) -> None:
                screen.bar(seconds / recording.seconds, f"{minutes(seconds)} / {minutes(recording.seconds)}")

            sent(0.0)
            await transcribe(recording, url, heard=heard, sent=sent, pace=job.pace, language=job.language)
    except (NoConnection, StreamError) as error:
        trouble, code = f"{job.path}: {error}", 1
    except BadInput as error:
        trouble, code = str(error), 2
    except asyncio.CancelledError:
        _finish(job, finals, f"{job.path}: interrupted")
        raise
    else:
        trouble, code = "", 0
    _finish(job, finals, trouble)
    return code


def _finish(job: Job, finals: list[Final], trouble: str) -> None:
    """Write what was heard, and say up to where if it is not everything."""
    whole = not trouble
    if not job.as_it_comes and (finals or whole):  # nothing is no reason to overwrite what an earlier run wrote
        transcript = WRITERS[job.format](finals)
        if job.target:
            _write(job.target, transcript)
        else:
            write(transcript)
    if trouble:
        say(f"{trouble} (heard up to {finals[-1].end_ts:.1f} s)" if finals else trouble)


def _write(target: Path, text: str) -> None:
    """Write a whole file or none."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadInput(f"{target} cannot be written ({error.strerror})") from None
