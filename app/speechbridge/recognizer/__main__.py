"""`python -m speechbridge.recognizer`: the embedded recognizer as a process of its own."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from speechbridge.recognizer.conversation import PATIENCE, RevAi
from speechbridge.recognizer.pool import decoding
from speechbridge.recognizer.process import parser, run

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


def _options() -> argparse.Namespace:
    options = parser(
        "python -m speechbridge.recognizer",
        "A speech recognizer for English that speaks Rev.ai's streaming protocol. It needs no account and no network."
        " When it accepts connections it prints one line: listening on ws://HOST:PORT",
    )
    options.add_argument(
        "--processes",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="decoding processes (default: one per core, here %(default)s)",
    )
    options.add_argument(
        "--streams",
        type=_positive,
        default=4,
        metavar="K",
        help="streams that one process serves at once; one more is refused with 4013 (default: %(default)s)",
    )
    options.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help="close a stream on which nothing came for so long (default: %(default)g)",
    )
    return options.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


@asynccontextmanager
async def _recognizing(options: argparse.Namespace) -> AsyncIterator[RevAi]:
    async with decoding(options.processes, options.streams) as pool:
        yield RevAi(pool, patience=options.patience)


def main() -> None:
    options = _options()
    run(_recognizing(options), options)


if __name__ == "__main__":
    main()
