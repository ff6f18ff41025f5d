"""What a command writes to stdout and stderr, whatever state these are in.

stdout gets the result that was asked for, and nothing else. stderr gets errors and notices: one line each. `--quiet`
leaves only errors; `--verbose` adds the log.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from enum import Enum
from typing import Annotated, TextIO

import typer

from speechbridge.protocol.captions import printable


class OutputFailed(Exception):
    """stdout takes nothing. Its text says why, and the cure."""


class Verbosity(Enum):
    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


_verbosity = Verbosity.NORMAL  # of this process: one command runs in it


def verbosity() -> Verbosity:
    return _verbosity


def set_verbosity(wanted: Verbosity) -> None:
    global _verbosity  # noqa: PLW0603 # as a logger's level is
    _verbosity = wanted
    if wanted is Verbosity.VERBOSE:
        from speechbridge import logs  # noqa: PLC0415 # most commands run without

        logs.configure("debug", "text")


def _quiet(given: bool) -> None:  # noqa: FBT001 # an option's callback
    if given:
        set_verbosity(Verbosity.QUIET)


def _verbose(given: bool) -> None:  # noqa: FBT001 # an option's callback
    if given:
        set_verbosity(Verbosity.VERBOSE)


# Options of every command. They act when they are parsed: no command needs to look at them.
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_quiet, help="Write only errors to stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", callback=_verbose, help="Write a detailed log to stderr.")]


def write(text: str) -> None:
    """Write to stdout, and flush it. Raises OutputFailed."""
    if sys.stdout is None:  # Python's sign that it was closed when we were started
        raise OutputFailed("stdout is closed: redirect it to a file, or use --output where there is one")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        give_up(sys.stdout)
        raise OutputFailed(f"stdout cannot be written ({error.strerror}): redirect it elsewhere") from None


def say(text: str) -> None:
    """Write one line to stderr."""
    try:
        sys.stderr.write(f"speechbridge: {printable(text)}\n")
        sys.stderr.flush()
    except OSError:  # nobody can be told
        give_up(sys.stderr)


def give_up(stream: TextIO) -> None:
    """Discard what is still buffered: Python would try again at exit, write a traceback, and change the exit code."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def notice(text: str) -> None:
    """Say what is good to know, unless --quiet was given."""
    if _verbosity is not Verbosity.QUIET:
        say(text)


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
