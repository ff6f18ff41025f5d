"""Runs `speechbridge serve --workers` as a process: its workers, its log as it is written, and its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from typing import TYPE_CHECKING

from tests.helpers.command import PATIENCE, announced, environment, url_in
from tests.helpers.processes import children

if TYPE_CHECKING:
    from collections.abc import Iterator
    from signal import Signals


class Service:
    """A service with workers. A thread reads its log, so that the service never waits for a full pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.log: list[str] = []
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def http(self) -> str:
        return self.url.replace("ws://", "http://")

    def workers(self) -> dict[str, int]:
        """Return the PID of each worker by its name, as the log reported it last."""
        reported = (re.search(r"worker (\d+) is ready, process (\d+)", line) for line in self.log)
        return {found[1]: int(found[2]) for found in reported if found}

    def await_line(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Return the next line of the log that matches, after the last one returned."""
        until = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise AssertionError(f"nothing about {pattern!r} in the log: {''.join(self.log[-20:])}") from None
            if re.search(pattern, line):
                return line

    def end(self, number: Signals) -> int:
        """Send the parent a signal; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def join(self) -> None:
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            self._lines.put(line)


@contextmanager
def service(number: int = 2, **variables: str) -> Iterator[Service]:
    """Run a service with so many workers on a free port. Processes left at the end are killed."""
    with subprocess.Popen(  # our own command
        [sys.executable, "-m", "speechbridge", "serve", "--port", "0", "--workers", str(number)],
        env=environment(SPEECHBRIDGE_LOG_FORMAT="text", **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        running = Service(process)
        every: set[int] = set()
        try:
            running.url = url_in(announced(process))
            for _ in range(number if number > 1 else 0):  # a single worker is the process itself
                running.await_line(r"worker \d+ is ready")
            every |= set(children(process.pid))
            yield running
        finally:
            with suppress(FileNotFoundError):
                every |= set(children(process.pid))
            process.kill()
            for pid in every:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            running.join()
