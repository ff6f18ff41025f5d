"""A real Redis or Valkey, on a Unix socket of its own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 10.0  # for it to start


@dataclass(frozen=True)
class RedisServer:
    url: str
    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run an empty Redis for the time of the context; skip the test if no Redis is installed."""
    path = next(filter(None, map(shutil.which, ("redis-server", "valkey-server"))), None)
    if path is None:
        pytest.skip("no Redis is on this machine: Debian's is installed by apt-get install redis-server")
    file = folder / "redis.sock"
    command = [path, "--port", "0", "--unixsocket", str(file), "--save", "", "--dir", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        server = RedisServer(f"unix://{file}", process)
        try:
            _await(file)
            yield server
        finally:
            process.kill()


def _await(file: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        with socket.socket(socket.AF_UNIX) as trying:
            try:
                trying.connect(str(file))
            except OSError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.01)
            else:
                return
