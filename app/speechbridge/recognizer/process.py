"""A recognizer as a process: its options, the line that it prints when it is ready, and its end.

Both `__main__` modules use it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from speechbridge import logs
from speechbridge.recognizer.server import Handler, serving

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

READY, FAILED = "listening on ", "cannot start: "  # beginnings of the line that a parent waits for


class CannotStart(Exception):
    """Something that a recognizer needs is missing. The text says what."""


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Make a parser with the options that every recognizer process has."""
    made = argparse.ArgumentParser(prog=prog, description=description)
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    made.add_argument("--port", type=int, default=0, help="port to listen on, 0 for any free one (default: 0)")
    made.add_argument("--supervised", action="store_true", help="exit when stdin ends, that is with the parent")
    made.add_argument("--log-format", choices=logs.FORMATS, default="auto", help="auto: JSON, but text on a terminal")
    return made


def run(handler: AbstractAsyncContextManager[Handler], options: argparse.Namespace) -> None:
    """Serve until SIGTERM, SIGINT or, if supervised, the end of stdin.

    Once it accepts connections it prints one line: listening on ws://HOST:PORT. If it cannot start, it prints one line,
    "cannot start: " and the reason, and exits with status 1. That line goes to stderr; if supervised, to stdout, where
    the parent waits for the other line.
    """
    logs.configure("info", options.log_format)
    try:
        asyncio.run(_run(handler, options))
    except (OSError, CannotStart) as error:  # OSError: for example, the port is taken
        print(f"{FAILED}{error}", file=sys.stdout if options.supervised else sys.stderr, flush=True)
        sys.exit(1)


async def _run(handler: AbstractAsyncContextManager[Handler], options: argparse.Namespace) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.supervised:
        threading.Thread(target=_await_parent, args=(loop, stop), name="parent-watch", daemon=True).start()
    async with handler as ready, serving(ready, options.host, options.port) as server:
        print(f"{READY}{server.url}", flush=True)  # noqa: T201 # the one line that a parent waits for
        await stop.wait()


def _await_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: a thread that holds its lock makes the interpreter's exit fail
        pass
    loop.call_soon_threadsafe(stop.set)
