"""`python -m speechbridge.recognizer`: the embedded recognizer as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.recognizer.conversation import IDLE_SECONDS, RevAi
from speechbridge.recognizer.models import ModelError
from speechbridge.recognizer.process import CannotStart, parser, run
from speechbridge.recognizer.streams import Models, Streams
from speechbridge.recognizer.threads import DecodingThreads

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

log = logging.getLogger(__name__)

STREAMS_PER_THREAD = 8  # live streams: with 16 on two cores, finals arrive within 2 s


def _options() -> argparse.Namespace:
    options = parser(
        "python -m speechbridge.recognizer",
        "A speech recognizer with Rev.ai's streaming protocol. It needs no account and no network."
        " When it accepts connections it prints one line: listening on ws://HOST:PORT",
    )
    options.add_argument(
        "--model", type=_folder, metavar="FOLDER", help="a model in Moonshine's layout (default: the English one)"
    )
    options.add_argument("--language", default="en", help="the language of the model (default: %(default)s)")
    options.add_argument(
        "--threads",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="decoding threads (default: one per core, here %(default)s)",
    )
    options.add_argument(
        "--streams",
        type=_positive,
        metavar="K",
        help=f"concurrent streams; one more is refused with 4013 (default: {STREAMS_PER_THREAD} per thread)",
    )
    options.add_argument(
        "--idle-seconds",
        type=float,
        default=IDLE_SECONDS,
        metavar="SECONDS",
        help="close a stream that received nothing for so long (default: %(default)g)",
    )
    return options.parse_args()


def _folder(text: str) -> Path | None:
    return Path(text) if text else None  # docker-compose.yml passes an empty text if none is set


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


@asynccontextmanager
async def _handler(options: argparse.Namespace) -> AsyncIterator[RevAi]:
    streams = options.streams or STREAMS_PER_THREAD * options.threads
    try:
        models = await asyncio.to_thread(Models, options.model, options.language)
    except ModelError as error:
        raise CannotStart(str(error)) from None
    with DecodingThreads(options.threads) as threads:
        watching = asyncio.create_task(_watch(threads), name="decoding-watch")
        try:
            yield RevAi(Streams(models, threads, streams), idle_seconds=options.idle_seconds)
        finally:
            watching.cancel()
            await asyncio.wait({watching})


async def _watch(threads: DecodingThreads) -> None:
    """End the process when a thread hangs in native code: its parent restarts it, and streams resume."""
    await threads.await_stuck()
    log.critical("a decoding thread hangs: exiting, to be restarted")
    os._exit(1)  # a normal exit would wait for that thread


def main() -> None:
    options = _options()
    run(_handler(options), options)


if __name__ == "__main__":
    main()
