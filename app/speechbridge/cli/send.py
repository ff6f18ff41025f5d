"""`speechbridge send text|file|proxy`: one flow of `/ws`, from the command line.

stdout gets the service's answer; a file's progress bar goes to stderr.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from speechbridge.cli import exits
from speechbridge.cli.exits import BadInput
from speechbridge.cli.local import Url, base_of, local_url, own_key
from speechbridge.cli.output import Quiet, Verbose, is_terminal, notice, write
from speechbridge.cli.screen import Screen
from speechbridge.client.flows import Connection, flows
from speechbridge.protocol.captions import printable
from speechbridge.settings import Settings

MEGABYTE = 10**6

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Run one flow of the service: echo a text, store a file, or ask its external server.",
)


@cli.command()
def text(
    text: Annotated[str, typer.Argument(help="What to echo.")],
    url: Url = None,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Send a text, and write its echo."""
    _run(url, lambda connection: _write_answer(connection.text(text)))


@cli.command()
def file(
    path: Annotated[Path, typer.Argument(help="A file of any kind and size.")],
    url: Url = None,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Send a file, for the service to store."""
    _run(url, lambda connection: _send_file(connection, path))


@cli.command()
def proxy(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    url: Url = None,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Ask the service's external server, and write its answer."""
    _run(url, lambda connection: _write_answer(connection.proxy(question)))


async def _write_answer(answering: Awaitable[str]) -> None:
    try:
        answer = await answering
    except UnicodeEncodeError:
        raise BadInput("the text is not UTF-8: write it in UTF-8") from None
    # A terminal would execute control characters in an answer; a file or a pipe gets the answer unchanged.
    write(f"{printable(answer) if is_terminal(sys.stdout) else answer}\n")


async def _send_file(connection: Connection, path: Path) -> None:
    try:
        total = _size(path)
        with Screen.on_stderr(path.name) as screen:

            def sent(size: int) -> None:
                screen.bar(size / total if total else 1.0, f"{size / MEGABYTE:.1f} / {total / MEGABYTE:.1f} MB")

            sent(0)
            await connection.file(path, sent=sent)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}: name a file that can be read") from None
    notice(f"{path}: stored")


def _size(path: Path) -> int:
    if path.exists() and not path.is_file():  # reading a pipe might wait for ever
        raise BadInput(f"{path}: not a file: name one")
    return path.stat().st_size


def _run(url: str | None, flow: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    """Run a flow on the service at `url`, or else the one on this machine. No service is started just for this."""
    exits.run(lambda: asyncio.run(_converse(base_of(url) if url else local_url(Settings.read()), flow)))


async def _converse(url: str, flow: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    async with flows(url, key=own_key()) as connection:
        await flow(connection)
