"""The embedded recognizer as a child process: started, waited for, restarted when it dies, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

from speechbridge import cores
from speechbridge.backoff import Backoff
from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

logger = logging.getLogger(__name__)

READY, FAILED = "listening on ", "cannot start: "  # beginnings of the first line that the process prints
START_SECONDS = 60.0  # enough for a cold disk and a busy machine; usually it takes one or two
STOP_SECONDS = 3.0
BACKOFF = Backoff(0.2, 5.0)  # seconds before a restart, by the number of deaths in a row
STEADY_SECONDS = 60.0  # a process that ran for so long begins a new row


class RecognizerFailed(Exception):
    """The recognizer did not start. If `is_explained`, the text says why; otherwise see its standard error."""

    def __init__(self, reason: str, *, is_explained: bool) -> None:
        super().__init__(f"the embedded recognizer did not start: {reason}")
        self.is_explained = is_explained


class EmbeddedRecognizer:
    """An async context manager around `python -m speechbridge.recognizer`.

    Entering waits until the process accepts connections. It runs in a session (setsid) of its own, so that Ctrl-C
    reaches only our process. It watches its standard input, so it exits by itself when our process is killed. It may
    use all cores that our process was allowed when this object was made, even if ours is pinned to one core by now.
    `on_moved` is called whenever the URL changes: with the new one, or with None while the process does not run.
    """

    def __init__(self, *arguments: str, module: str = "speechbridge.recognizer") -> None:
        self._cores = cores.allowed()  # before our process is pinned to one of them
        self._command = [sys.executable, "-m", module, "--supervised", "--port", "0", *arguments]
        self._process: asyncio.subprocess.Process | None = None
        self.on_moved: Callable[[str | None], object] = lambda _url: None
        self._url: str | None = None
        self._keeper: asyncio.Task[None] | None = None  # restarts the process when it dies

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def url(self) -> str:
        """Return the URL of the process. Raises UpstreamClosed while it is being restarted."""
        if self._url is None:
            raise UpstreamClosed(Close(CloseCode.UNAVAILABLE, "the recognizer is being restarted: try again shortly"))
        return self._url

    async def __aenter__(self) -> Self:
        """Start it. Raises RecognizerFailed.

        Cancellation: the process is stopped.
        """
        await self._start()
        self._keeper = asyncio.create_task(self._keep(), name="recognizer-keeper")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            await cancel_and_wait(self._keeper)
        await self._stop()

    async def _start(self) -> None:
        is_narrowed = cores.allowed() != self._cores
        process = self._process = await asyncio.create_subprocess_exec(
            *cores.command(self._cores if is_narrowed else (), *self._command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            # The working directory is the user's, and may hold modules with the names of ours or of a library.
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"},
        )
        assert process.stdout is not None  # noqa: S101 # it is a pipe
        try:
            async with asyncio.timeout(START_SECONDS):
                line = (await process.stdout.readline()).decode()
        except TimeoutError:
            line = ""
        except asyncio.CancelledError:
            await self._stop()
            raise
        if not line.startswith(READY):
            await self._stop()
            if line.startswith(FAILED):
                raise RecognizerFailed(line.removeprefix(FAILED).strip(), is_explained=True)
            raise RecognizerFailed(f"exit status {process.returncode}", is_explained=False)
        self._move(line.removeprefix(READY).strip())

    async def _keep(self) -> None:
        clock, failures = asyncio.get_running_loop().time, 0
        while True:
            started_at = clock()
            assert self._process is not None  # noqa: S101 # it was started before this task
            status = await self._process.wait()
            self._move(None)
            failures = failures + 1 if clock() - started_at < STEADY_SECONDS else 0
            pause = BACKOFF.limit(failures)
            logger.error("the recognizer died (exit status %s); restarting it in %g s", status, pause)
            await asyncio.sleep(pause)
            try:
                await self._start()
                logger.info("the recognizer runs again")
            except RecognizerFailed as failure:  # the new process has ended: the next turn waits longer
                logger.error("%s", failure)  # noqa: TRY400 # the text explains it, the traceback does not

    def _move(self, url: str | None) -> None:
        self._url = url
        self.on_moved(url)

    async def _stop(self) -> None:
        self._move(None)
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
