"""`speechbridge send text|file|proxy`: one flow of `/ws`, from the command line.

stdout gets the service's answer; a file's bar goes to stderr.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from speechbridge.cli.captions import printable
from speechbridge.cli.local import own_key
from speechbridge.cli.screen import INTERRUPTED, Screen, say, write
from speechbridge.client.flows import Connection, flows
from speechbridge.client.stream import NoConnection, StreamError

MEGABYTE = 10**6
LOCAL = "ws://127.0.0.1:8000"  # a text for a service that is run just to echo it makes no sense
Url = Annotated[str, typer.Option(help="service to use, ws://host:port")]

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run one flow of the service: echo a text, store a file, ask its external server.",
)


class BadInput(Exception):
    """A file or a text that cannot be sent. Its text says why, and the cure."""


@commands.command()
def text(text: Annotated[str, typer.Argument(help="what to echo")], url: Url = LOCAL) -> None:
    """Send a text, and write its echo."""
    _run(url, lambda connection: _write_answer(connection.text(text)))


@commands.command()
def file(path: Annotated[Path, typer.Argument(help="a file of any kind and size")], url: Url = LOCAL) -> None:
    """Send a file, for the service to store."""
    _run(url, lambda connection: _send_file(connection, path))


@commands.command()
def proxy(question: Annotated[str, typer.Argument(help="what to ask")], url: Url = LOCAL) -> None:
    """Ask the service's external server, and write its answer."""
    _run(url, lambda connection: _write_answer(connection.proxy(question)))


async def _write_answer(answering: Awaitable[str]) -> None:
    try:
        answer = await answering
    except UnicodeEncodeError:
        raise BadInput("the text is not UTF-8: write it in UTF-8") from None
    # A terminal would obey what an answer holds; anything else gets it as it is.
    write(f"{printable(answer) if sys.stdout.isatty() else answer}\n")


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
    say(f"{path}: stored")


def _size(path: Path) -> int:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise BadInput(f"{path}: not a file: name one")
    return path.stat().st_size


def _run(url: str, flow: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    try:
        asyncio.run(_converse(url, flow))
    except (NoConnection, StreamError) as error:
        say(str(error))
        code = 1
    except BadInput as error:
        say(str(error))
        code = 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    else:
        code = 0
    raise typer.Exit(code)


async def _converse(url: str, flow: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    async with flows(url, key=own_key()) as connection:
        await flow(connection)
