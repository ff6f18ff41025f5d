"""`speechbridge transcribe FILE...`: a file is played to the service as if it were spoken, and written as it is heard.

stdout gets the transcript and nothing else. What is for the eye (captions as they grow, a bar of the seconds sent)
goes to stderr, and only if that is a terminal.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import soundfile
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from app import captions
from app.audio import RATE, Converter
from app.captions import line, printable
from app.client import NoConnection, Stream, StreamError, connect
from app.local import local_service
from app.wire import ContentType, Final, Option, Partial, StreamRequest

BLOCK = 0.1  # seconds of audio that are read and sent at once
BYTES_A_SECOND = 2 * RATE
PARTIAL_LINES = 3  # of a partial, its newest: more would push what is final off a small terminal
FRAME = 0.05  # seconds between two pictures on the terminal, at least
SHORTFALL = 1.0  # seconds a file may be shorter than it says: some MP3s only guess their length
INTERRUPTED = 130  # what shells report for a program ended by SIGINT


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
    async with connect(url, StreamRequest(ContentType.raw(RATE), options)) as stream:
        sending = asyncio.create_task(_send(recording, stream, sent, pace, clock))
        try:
            async for message in stream:
                heard(message)
            await sending
        finally:
            # A stream that broke breaks both; the iteration tells of it, after the last message.
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


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


class Screen:
    """What is seen of one file while it plays: its captions, and the seconds sent.

    On a terminal it keeps a few lines at the bottom: the partial that still changes, and a bar. Elsewhere it shows
    nothing at all. `finals` says whether it shows finals too, above those lines. `seconds` is the file's length.
    """

    def __init__(self, name: str, seconds: float, console: Console, clock: Clock = Clock(), *, finals: bool) -> None:
        self._console = console
        self._clock = clock
        self._finals = finals
        self._partial = ""
        self._aside = False
        self._drawn = clock.now()
        self._total = seconds
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[sent]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
        )
        self._bar = self._progress.add_task(printable(name), total=seconds, sent=self._position(0.0))
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # it would go to stderr
            redirect_stderr=False,
            get_renderable=self._picture,
        )

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def heard(self, message: Partial | Final) -> None:
        """Show a partial in the place of the one before, a final for good."""
        if isinstance(message, Partial):
            self._partial = line(message)
        else:
            self._partial = ""
            if self._finals and self._live.is_started and (text := line(message)):
                self._console.print(text, markup=False, highlight=False, emoji=False)
        self._draw()

    def sent(self, seconds: float) -> None:
        """Move the bar."""
        self._progress.update(self._bar, completed=seconds, sent=self._position(seconds))
        if self._clock.now() - self._drawn >= FRAME:
            self._draw()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the lines away for as long as something else writes: stdout may be the same terminal."""
        self._aside = True
        self._draw()
        yield
        self._aside = False
        self._draw()

    def _position(self, seconds: float) -> str:
        return f"{_minutes(seconds)} / {_minutes(self._total)}"

    def _draw(self) -> None:
        self._drawn = self._clock.now()
        if self._live.is_started:
            self._live.refresh()

    def _picture(self) -> RenderableType:
        if self._aside:
            return Text()
        partial = Text(self._partial, style="dim").wrap(self._console, self._console.width)
        return Group(*partial[-PARTIAL_LINES:], self._progress.get_renderable())


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


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
        _say(str(error))
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
    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    # On one terminal stdout shows the finals: twice would be too much.
    shown_by_stdout = job.as_it_comes and sys.stdout.isatty()
    try:
        with (
            Recording(job.path) as recording,
            Screen(job.path.name, recording.seconds, console, finals=not shown_by_stdout) as screen,
        ):

            def heard(message: Partial | Final) -> None:
                screen.heard(message)
                if isinstance(message, Final):
                    finals.append(message)
                    if job.as_it_comes:
                        with screen.aside():
                            _print(captions.to_text([message]))

            await transcribe(recording, url, heard=heard, sent=screen.sent, pace=job.pace, language=job.language)
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
            _print(transcript)
    if trouble:
        _say(f"{trouble} (heard up to {finals[-1].end_ts:.1f} s)" if finals else trouble)


def _write(target: Path, text: str) -> None:
    """Write a whole file or none."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadInput(f"{target} cannot be written ({error.strerror})") from None


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    typer.echo(f"speechbridge: {printable(text)}", err=True)
