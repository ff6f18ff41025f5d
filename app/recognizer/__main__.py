"""`python -m app.recognizer`: the embedded recognizer as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
from contextlib import AsyncExitStack
from pathlib import Path

from app import logs
from app.recognizer.conversation import PATIENCE, RevAi
from app.recognizer.pool import decoding
from app.recognizer.script import Scripted
from app.recognizer.server import Attendant, serving


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app.recognizer",
        description="A speech recognizer for English that speaks Rev.ai's streaming protocol. It needs no account and"
        " no network. When it accepts connections it prints one line: listening on ws://HOST:PORT",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on, 0 for any free one (default: 0)")
    parser.add_argument(
        "--processes",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="decoding processes (default: one per core, here %(default)s)",
    )
    parser.add_argument(
        "--streams",
        type=_positive,
        default=4,
        metavar="K",
        help="streams that one process serves at once; one more is refused with 4013 (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help="close a stream on which nothing came for so long (default: %(default)g)",
    )
    parser.add_argument("--script", type=_script, metavar="FILE", help="answer by this script (JSON), decode nothing")
    parser.add_argument("--supervised", action="store_true", help="end when stdin ends, that is with the parent")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto", help="auto: JSON, but text on a terminal")
    return parser.parse_args()


def _script(path: str) -> Scripted:
    try:
        return Scripted.from_json(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


async def _run(arguments: argparse.Namespace) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if arguments.supervised:
        threading.Thread(target=_await_parent, args=(loop, stop), name="parent-watch", daemon=True).start()
    async with AsyncExitStack() as stack:
        attendant: Attendant
        if arguments.script:
            attendant = arguments.script
        else:
            pool = await stack.enter_async_context(decoding(arguments.processes, arguments.streams))
            attendant = RevAi(pool, patience=arguments.patience)
        server = await stack.enter_async_context(serving(attendant, arguments.host, arguments.port))
        print(f"listening on {server.url}", flush=True)  # noqa: T201 # the one line that a parent waits for
        await stop.wait()


def _await_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock, held here, would break the interpreter's exit
        pass
    loop.call_soon_threadsafe(stop.set)


def main() -> None:
    arguments = _arguments()
    logs.configure("info", arguments.log_format)
    try:
        asyncio.run(_run(arguments))
    except OSError as error:  # the address is taken, or no process starts
        raise SystemExit(f"cannot start: {error}") from None


if __name__ == "__main__":
    main()
