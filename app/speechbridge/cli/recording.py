"""Sound files and pipes, decoded to 16 kHz mono S16LE. The only import of soundfile, which is libsndfile.

The blocks of a file are decoded in the event loop: a block of compressed audio takes well under a millisecond. A pipe
may be silent for any time, so a thread waits for its blocks; `stop` wakes this thread.
"""

from __future__ import annotations

import mmap
import os
import socket
import stat
import sys
import tempfile
import threading
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, Self

import soundfile

from speechbridge.audio import RATE, Converter
from speechbridge.cli.containers import FLAC, HEADER, Part, is_wav, parts_of, size_is_unknown
from speechbridge.cli.exits import BadInput
from speechbridge.cli.splitting import Incoming, kind_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BLOCK = 0.1  # seconds of audio that are read and sent at once
SHORTFALL = 1.0  # seconds by which a file may be shorter than its header says: compressed lengths are often rounded
ENDLESS = 2**62  # frames: libsndfile returns a larger number if the length is not known
LOOSE = 16  # bytes: fewer, after a recording, are no recording
STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class Raw:
    """Samples without a header: interleaved S16LE."""

    rate: int
    channels: int


class Sound(Protocol):
    """A source of audio, used as a context manager."""

    name: str
    seconds: float | None  # None if the length is not known
    is_live: bool  # the next block may block for any time: wait for it in a thread

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def blocks(self) -> Iterator[bytes]:
        """Yield the audio, once. Raises BadInput where it is damaged; the blocks before are good."""
        ...

    def stop(self) -> None:
        """Make `blocks` end soon, even while a thread waits for the next one."""
        ...


def sound_of(path: Path, raw: Raw | None = None) -> Sound:
    """Return the sound of a file, a pipe, or stdin (`-`). `raw` is the format of a sound without a header.

    Raises BadInput.
    """
    if path == STDIN and sys.stdin is None:
        raise BadInput("stdin is closed: pipe a sound file into it")
    source: int | Path = 0 if path == STDIN else path
    try:
        mode = os.stat(source).st_mode  # noqa: PTH116 # it may be a descriptor
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return Pipe(source, "stdin" if path == STDIN else str(path), raw)
        if path == STDIN and os.isatty(0):
            raise BadInput("stdin is a terminal: pipe a sound file into it")
        if not stat.S_ISREG(mode) and path == STDIN:  # such as /dev/null
            raise BadInput("stdin holds no file: pipe a sound file into it")
        if not stat.S_ISREG(mode):
            raise BadInput(f"{path}: not a file: name a sound file")
        return Recording(source, "stdin" if path == STDIN else str(path), raw)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}: name a sound file") from None


class Recording:
    """A sound file of any kind that libsndfile reads, or of raw samples. Only one block at a time is in memory."""

    is_live = False

    def __init__(self, source: int | str | Path, name: str = "", raw: Raw | None = None) -> None:
        """`source` is a file's name or its descriptor, `name` its name in messages."""
        self.name = name or str(source)
        self.seconds: float | None = None
        self._source = source
        self._raw = raw
        self._is_stopped = False
        self._parts: list[Part] = []

    def __enter__(self) -> Self:
        """Open the file; raise BadInput if it is not a sound file or holds no audio."""
        try:
            closes = not isinstance(self._source, int)
            with open(self._source, "rb", closefd=closes) as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise BadInput(f"{self.name}: it is empty: name a sound file")
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise BadInput(f"{self.name}: {error.strerror}: name a sound file") from None
        try:
            if self._raw is None:
                self._parts = parts_of(self._data)
            self.seconds = self._length()
        except BaseException:
            self._data.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def stop(self) -> None:
        self._is_stopped = True

    def blocks(self) -> Iterator[bytes]:
        if self._raw is not None:
            size = _block_size(self._raw)
            places = range(0, len(self._data), size)
            pieces = (self._data[place : place + size] for place in places if not self._is_stopped)
            yield from _converted(pieces, self._raw)
        passed = 0.0  # seconds
        for part in self._parts:
            with closing(self._open(part)) as file:
                for block in _decoded(file, None, passed, self.name):
                    if self._is_stopped:
                        return
                    passed += len(block) / (2 * RATE)
                    yield block

    def _length(self) -> float | None:
        """Return the seconds of the whole file. Raises BadInput if a part of it cannot be read, or none holds audio."""
        if self._raw is not None:
            return len(self._data) / (2 * self._raw.rate * self._raw.channels)
        lengths = []
        for part in self._parts:
            with closing(self._open(part)) as file:
                lengths.append(_seconds(file))
        if not any(length is None or length > 0 for length in lengths):
            raise BadInput(f"{self.name}: it holds no audio")
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    def _open(self, part: Part) -> soundfile.SoundFile:
        return _opened(lambda: _Forwards(_Window(self._data, part)), self.name)


class Pipe:
    """Sound from a pipe, decoded while it arrives. Kinds that libsndfile can only read from a file wait for its end.

    A thread reads the pipe and copies each recording into a socket pair, from which `blocks` reads. Nothing can wake a
    thread that waits for a pipe; but shutting down a socket wakes a thread that waits for it.
    """

    is_live = True
    seconds: float | None = None

    def __init__(self, source: int | Path, name: str, raw: Raw | None = None) -> None:
        """`source` is a descriptor or a file's name. It is read from `__enter__` on."""
        self.name = name
        self._source = source
        self._raw = raw
        self._stopping = threading.Lock()
        self._is_stopped = False
        self._sockets: list[socket.socket] = []  # from which `blocks` reads, or will read
        self._parts: SimpleQueue[_Incoming | None] = SimpleQueue()  # None: no more follow

    def __enter__(self) -> Self:
        # A daemon: the pipe may never end, and nothing can wake the thread that waits for it.
        threading.Thread(target=self._pump, name=f"pipe-{self.name}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for out in self._sockets:
            out.close()

    def stop(self) -> None:
        with self._stopping:
            self._is_stopped = True
            for out in self._sockets:
                with suppress(OSError):  # shut already
                    out.shutdown(socket.SHUT_RDWR)
        self._parts.put(None)

    def blocks(self) -> Iterator[bytes]:
        passed = 0.0  # seconds
        is_empty = True
        while (part := self._parts.get()) is not None:
            is_empty = False
            try:
                for block in self._blocks_of(part, passed):
                    passed += len(block) / (2 * RATE)
                    yield block
            except BadInput:
                if not self._is_stopped:
                    raise
        if is_empty and not self._is_stopped:
            raise BadInput(f"{self.name}: it is empty: pipe a sound file into it")

    def _blocks_of(self, part: _Incoming, passed: float) -> Iterator[bytes]:
        if self._raw is not None:
            yield from _converted(part.pieces(_block_size(self._raw)), self._raw)
        elif part.is_whole_file:
            yield from self._blocks_of_file(part)
        else:
            with closing(_opened(lambda: _Forwards(part.source, closefd=False), self.name)) as file:
                yield from _decoded(file, 0.0 if part.is_endless else None, passed, self.name)

    def _blocks_of_file(self, part: _Incoming) -> Iterator[bytes]:
        with tempfile.NamedTemporaryFile(prefix="speechbridge-") as copy:
            for piece in part.pieces(HEADER):
                copy.write(piece)
            copy.flush()
            with Recording(copy.name, self.name) as recording:
                yield from recording.blocks()

    # ---- in the thread that reads the pipe ---------------------------------------------------------------------------

    def _pump(self) -> None:
        closes = not isinstance(self._source, int)
        # OSError: the pipe broke, or `stop` has shut our socket down.
        with suppress(OSError), open(self._source, "rb", buffering=0, closefd=closes) as source:
            incoming = Incoming(iter(lambda: source.read(HEADER), b""))
            least = 1
            while incoming.has(least):
                if self._raw is None and (split := kind_in(incoming)) is not None:
                    self._pass_on(split(incoming))
                    least = LOOSE  # ignore a few bytes after a recording
                else:
                    everything = chain([incoming.take(len(incoming.bytes))], incoming.passing(sys.maxsize))
                    self._pass_on(zip(chain([True], repeat(False)), everything, strict=False), is_whole_file=True)
        self._parts.put(None)

    def _pass_on(self, pieces: Iterable[tuple[bool, bytes]], *, is_whole_file: bool = False) -> None:
        with ExitStack() as sinks:
            for begins, piece in pieces:
                if begins:
                    sinks.close()
                    sink = sinks.enter_context(self._begin(piece, is_whole_file=is_whole_file))
                sink.sendall(piece)

    def _begin(self, head: bytes, *, is_whole_file: bool) -> socket.socket:
        with self._stopping:
            if self._is_stopped:
                raise BrokenPipeError
            out, sink = socket.socketpair()
            self._sockets.append(out)
        is_endless = is_wav(head) and size_is_unknown(head)
        self._parts.put(_Incoming(out, is_whole_file, is_endless, is_flac=FLAC.match(head) is not None))
        return sink


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A recording that arrives through a socket."""

    out: socket.socket
    is_whole_file: bool  # read it to its end before decoding
    is_endless: bool  # its header does not have its length
    is_flac: bool

    @property
    def source(self) -> int | _Beginning:
        return _Beginning(self.out) if self.is_flac else self.out.fileno()

    def pieces(self, size: int) -> Iterator[bytes]:
        return iter(lambda: self.out.recv(size, socket.MSG_WAITALL), b"")


class _Beginning:
    """A socket as a file object that can seek back within its first bytes: libsndfile does so to open a FLAC."""

    KEPT = 2**17  # bytes; metadata may be longer, with a picture, but libsndfile reads that forwards

    def __init__(self, out: socket.socket) -> None:
        self._out = out
        self._begun = b""
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: ENDLESS}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        if self._place < len(self._begun):
            found = self._begun[self._place : self._place + size]
        else:
            found = self._out.recv(size, socket.MSG_WAITALL)
            if len(self._begun) < self.KEPT:
                self._begun += found
        self._place += len(found)
        return found


class _Forwards(soundfile.SoundFile):  # type: ignore[misc] # soundfile ships no types
    """A sound file that soundfile treats as not seekable: it seeks after each read, which leaves gaps in an MP3."""

    def seekable(self) -> bool:
        return False


class _Window:
    """A part of a file, as a file object."""

    def __init__(self, data: mmap.mmap, part: Part) -> None:
        self._data = data
        self._part = part
        self._size = len(part.head) + part.end - part.start
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        size = max(0, min(size, self._size - self._place))
        head = self._part.head[self._place : self._place + size]
        start = self._part.start + max(0, self._place - len(self._part.head))
        self._place += size
        return head + self._data[start : start + size - len(head)]


def _opened(opening: Callable[[], soundfile.SoundFile], name: str) -> soundfile.SoundFile:
    try:
        return opening()
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: the file's name ends in .raw
        why = getattr(error, "error_string", "it has no header").rstrip(".")
        cure = "convert it to WAV or FLAC, or give --rate if it holds raw samples"
        raise BadInput(f"{name}: no audio can be read from it ({why}): {cure}") from None


def _decoded(file: soundfile.SoundFile, seconds: float | None, before: float, name: str) -> Iterator[bytes]:
    """Yield a sound file's audio. `seconds` is its least expected length; None: the length in its header."""
    rate = file.samplerate
    converter = Converter(rate, file.channels)
    done = 0
    try:
        # Read floats: if the file has floats, libsndfile does not scale them to integers.
        while len(block := file.read(max(1, round(BLOCK * rate)), dtype="float32", always_2d=True)):
            done += len(block)
            block[block != block] = 0  # noqa: PLR0124 # replaces NaN with silence
            yield converter.feed((block * 32768).round().clip(-32768, 32767).astype("<i2").tobytes())
    except soundfile.LibsndfileError as error:
        why = error.error_string.rstrip(".") or "unreadable"
        raise BadInput(f"{name}: damaged after {before + done / rate:.1f} s ({why})") from None
    yield converter.finish()
    expected = _seconds(file) if seconds is None else seconds
    if expected is not None and expected - done / rate > SHORTFALL:
        raise BadInput(
            f"{name}: ends after {before + done / rate:.1f} s, but its header says {before + expected:.1f} s: "
            "it is truncated or damaged"
        )


def _seconds(file: soundfile.SoundFile) -> float | None:
    return None if file.frames > ENDLESS else file.frames / file.samplerate


def _converted(pieces: Iterator[bytes], raw: Raw) -> Iterator[bytes]:
    converter = Converter(raw.rate, raw.channels)
    yield from map(converter.feed, pieces)
    yield converter.finish()


def _block_size(raw: Raw) -> int:
    return round(BLOCK * raw.rate) * 2 * raw.channels
