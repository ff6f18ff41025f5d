"""The processes of a measurement: the service, the script that plays its speech service, and the load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbridge.cli.exits import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

# A service without limits, which only this machine can reach.
OPEN = {
    "SPEECHBRIDGE_HOST": "127.0.0.1",
    "SPEECHBRIDGE_API_KEYS": "",
    "SPEECHBRIDGE_API_KEYS_FILE": "",
    "SPEECHBRIDGE_PUBLISHED_ON": "",
    "SPEECHBRIDGE_SESSION_SECONDS": "0",
    "SPEECHBRIDGE_LOG_LEVEL": "error",
}


@contextmanager
def service(**settings: str) -> Iterator[tuple[str, list[int]]]:
    """Run the service with these settings and the environment's; yield its base URL, and the PIDs of its processes."""
    with running(["speechbridge", "serve", "--port", "0"], "url=", OPEN | settings) as (url, pid):
        yield url, family(pid)


@contextmanager
def running(arguments: list[str], sign: str, settings: dict[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """Run a module of ours; yield the word that follows `sign` in the line it prints when it is ready, and its PID.

    Raises Failed with the last line of its stderr if it ends before it is ready.
    """
    with subprocess.Popen(  # noqa: S603 # our own
        [sys.executable, "-m", *arguments],
        env=os.environ | (settings or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = next((line for line in process.stdout or () if sign in line), None)
            if line is None:
                raise Failed(_last_line(process.stderr.read() if process.stderr else "") or f"{arguments[0]} ended")
            yield line.partition(sign)[2].split()[0], process.pid
        finally:
            process.terminate()


def measure(module: str, *arguments: str) -> Any:
    """Run a module of ours that prints its results as JSON; return these. Raises Failed."""
    command = [sys.executable, "-m", module, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 # our own
    if ran.returncode:
        raise Failed(f"the load failed: {_last_line(ran.stderr)}")
    return json.loads(ran.stdout)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].removeprefix("speechbridge: ")


def family(pid: int) -> list[int]:
    """Return the PIDs of a process and all its descendants."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(each for task in tasks for child in task.read_text().split() for each in family(int(child)))]
