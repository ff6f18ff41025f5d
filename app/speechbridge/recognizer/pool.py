"""The decoding processes, seen from the event loop: which streams they serve, how they are kept alive.

A stream stays with the process that had the most room when it came. It has one request of at most `SLICE` of audio
under way, so a client that sends a whole file at once takes turns with a neighbour that speaks live.
A process that dies ends its streams with 4010, which a client may answer by trying again, and is replaced.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import sys
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.request import BadRequest, ContentType
from speechbridge.recognizer.conversation import Refused
from speechbridge.recognizer.requests import (
    LENGTH,
    MAX_SEGMENT,
    Feed,
    Finish,
    Leave,
    Open,
    Reply,
    Request,
    Settings,
    pack,
)
from speechbridge.recognizer.wav import Format, WavReader

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from speechbridge.protocol.messages import Final, Partial
    from speechbridge.protocol.request import StreamRequest

log = logging.getLogger(__name__)

SLICE = 0.1  # seconds of audio in one request: 10 ms of decoding
HEADER_PIECE = 4096  # bytes at once of a WAV file whose format is not known yet
REPLY_TIMEOUT = 30.0  # seconds; an answer takes some 10 ms, and 0.3 s when a decoder must be loaded
READY_TIMEOUT = 60.0  # seconds for a process to load its first decoder; it takes 0.5 s here
RETRY_AFTER = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a process is replaced, by failures to start in a row

DIED = Close(CloseCode.SHUTTING_DOWN, "the decoding process ended; connect again")
FULL = Close(CloseCode.UNAVAILABLE, "all recognizers are busy; try again later")


class Worker:
    """One process; `streams` is how many it serves."""

    def __init__(self, process: Process) -> None:
        self.streams = 0
        self._process = process
        self._alive = True
        self._waiting: deque[asyncio.Future[Reply] | None] = deque()  # one for each reply to come, None: nobody waits

    @classmethod
    async def start(cls) -> Worker:
        """Start a process and wait until it has loaded a decoder. Raises OSError if it does not get there.

        Cancellation: kills the process.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "speechbridge.recognizer.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,  # Ctrl-C is for its parent, which knows what to say to the clients
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                await worker._read()
        except asyncio.IncompleteReadError:
            await process.communicate()
            raise OSError(f"the decoding process ended with code {process.returncode} before it was ready") from None
        except (TimeoutError, asyncio.CancelledError):
            await worker.kill()
            raise
        return worker

    async def run(self) -> None:
        """Pass on replies until the process dies; those who wait then are refused."""
        try:
            while True:
                reply = await self._read()
                waiting = self._waiting.popleft()
                if waiting and not waiting.done():  # done: its stream was cancelled meanwhile
                    waiting.set_result(reply)
        except asyncio.IncompleteReadError:
            log.warning("decoding process %d died under %d streams", self._process.pid, self.streams)
        finally:
            self._alive = False
            for waiting in self._waiting:
                if waiting and not waiting.done():
                    waiting.set_exception(Refused(DIED))
        await self._process.communicate()  # reaps it

    async def ask(self, request: Request) -> list[Partial | Final]:
        """Return the reply. Raises Refused when the process dies, or is killed as it did not reply in time.

        Cancellation: the reply is dropped when it comes.
        """
        if not self._alive:
            raise Refused(DIED)
        reply = asyncio.get_running_loop().create_future()
        self._write(request, reply)
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                return await reply or []
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            raise Refused(DIED) from None

    def tell(self, request: Request) -> None:
        """Send what needs no reply."""
        if self._alive:
            self._write(request, None)

    async def kill(self) -> None:
        """End the process; it holds nothing that is worth a farewell. Idempotent."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()  # closes the pipes too

    def _write(self, request: Request, reply: asyncio.Future[Reply] | None) -> None:
        assert self._process.stdin  # noqa: S101 # we asked for a pipe
        self._waiting.append(reply)
        self._process.stdin.write(pack(request))  # needs no drain: each stream has one request under way

    async def _read(self) -> Reply:
        assert self._process.stdout  # noqa: S101 # we asked for a pipe
        (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
        reply: Reply = pickle.loads(await self._process.stdout.readexactly(length))  # noqa: S301 # our own child's words
        return reply


class Stream:
    """One client's audio, on its way to the process that recognises it. See `conversation.Recognition`."""

    def __init__(self, worker: Worker, number: int, audio: Format | None, settings: Settings) -> None:
        self._worker = worker
        self._number = number
        self._format = audio  # None: its header will tell
        self._wav = None if audio else WavReader()
        self._settings = settings
        self._opened = self._closed = False
        worker.streams += 1

    @property
    def piece(self) -> int:
        if self._format is None:
            return HEADER_PIECE
        return int(SLICE * self._format.bytes_per_second)

    async def feed(self, audio: bytes) -> list[Partial | Final]:
        if self._wav:
            audio = self._wav.feed(audio)
            self._format = self._wav.format
        if self._format is None or not audio:
            return []
        if not self._opened:
            self._opened = True
            await self._worker.ask(Open(self._number, self._format.rate, self._format.channels, self._settings))
        return await self._worker.ask(Feed(self._number, audio))

    async def finish(self) -> list[Partial | Final]:
        if self._wav:
            self._wav.finish()
        return await self._worker.ask(Finish(self._number)) if self._opened else []

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._worker.streams -= 1
        if self._opened:
            self._worker.tell(Leave(self._number))


class Pool:
    """Processes with room for `streams` each. See `conversation.Recognizer`."""

    def __init__(self, workers: list[Worker], streams: int) -> None:
        self._workers: list[Worker | None] = [*workers]
        self._streams = streams
        self._numbers = itertools.count()

    def open(self, request: StreamRequest) -> Stream:
        """Take a place at the process with the most room. Raises BadRequest, or Refused if there is none."""
        audio, settings = _format(request.content_type), _settings(request)
        workers = [worker for worker in self._workers if worker and worker.streams < self._streams]
        if not workers:
            raise Refused(FULL)
        worker = min(workers, key=lambda worker: worker.streams)
        return Stream(worker, next(self._numbers), audio, settings)

    async def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            if worker:
                await worker.kill()

    async def keep(self, place: int) -> None:
        """Run the process at a place, and whoever follows it, for ever."""
        while True:
            if worker := self._workers[place]:
                await worker.run()
            self._workers[place] = None
            self._workers[place] = await _start_again()


async def _start_again() -> Worker:
    for delay in itertools.chain(RETRY_AFTER, itertools.repeat(RETRY_AFTER[-1])):
        await asyncio.sleep(delay)
        try:
            return await Worker.start()
        except OSError as error:
            log.warning("%r; trying again", error)
    raise AssertionError("unreachable")


@asynccontextmanager
async def decoding(processes: int, streams: int) -> AsyncIterator[Pool]:
    """Run decoding processes, with room for `streams` in each, as long as the context lasts.

    Raises OSError if they cannot start. Cancellation: kills them.
    """
    try:
        async with asyncio.TaskGroup() as starting:
            starts = [starting.create_task(Worker.start()) for _ in range(processes)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    pool = Pool([start.result() for start in starts], streams)
    keepers = [asyncio.create_task(pool.keep(place)) for place in range(processes)]
    try:
        yield pool
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.wait(keepers)
        await pool.close()


def _format(content_type: ContentType) -> Format | None:
    """Return what raw audio is made of; None for WAV, which says so itself. Raises BadRequest for other audio."""
    if content_type.media == "audio/x-wav":
        return None
    cure = f"send {ContentType.raw()} or audio/x-wav"
    if content_type.media != ContentType.RAW:
        raise BadRequest(f"{content_type.media} is not decoded here: {cure}")
    if content_type.format != "S16LE":
        raise BadRequest(f"only format=S16LE is decoded here: {cure}")
    rate, channels = content_type.rate, content_type.channels
    if rate is None or channels is None:
        raise BadRequest(f"rate or channels are missing: {cure}")
    if content_type.layout != "interleaved" and channels > 1:
        raise BadRequest(f"{channels} channels must be interleaved: {cure}")
    return Format(rate, channels)


def _settings(request: StreamRequest) -> Settings:
    """Read the options that mean something here; the others pass by. Raises BadRequest for another language."""
    options = request.options
    if str(options.get("language", "en")).lower().partition("-")[0] != "en":
        raise BadRequest("only English is recognised here: send language=en, or none")
    return Settings(
        float(options.get("start_ts", 0.0)),
        bool(options.get("detailed_partials", False)),
        float(options.get("max_segment_duration_seconds", MAX_SEGMENT)),
    )
