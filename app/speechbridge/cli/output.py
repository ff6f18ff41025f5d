"""What a command writes to stdout and stderr, even if these are closed, full or broken.

stdout gets the result, and nothing else. stderr gets errors and notices, one line each; with `--quiet` only errors,
with `--verbose` also the log.
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
    """stdout cannot be written. The text says why, and what to do."""


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
        from speechbridge import logs  # noqa: PLC0415 # most commands do not log

        logs.configure("debug", "text")


def _quiet(given: bool) -> None:  # noqa: FBT001 # an option's callback
    if given:
        set_verbosity(Verbosity.QUIET)


def _verbose(given: bool) -> None:  # noqa: FBT001 # an option's callback
    if given:
        set_verbosity(Verbosity.VERBOSE)


# Options of every command. They take effect when they are parsed: commands ignore their values.
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_quiet, help="Write only errors to stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", callback=_verbose, help="Write a detailed log to stderr.")]


def write(text: str) -> None:
    """Write to stdout, and flush it. Raises OutputFailed."""
    if sys.stdout is None:  # it was closed when this process started
        raise OutputFailed("stdout is closed: redirect it to a file, or use --output where there is one")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        raise OutputFailed(f"stdout cannot be written ({error.strerror}): redirect it elsewhere") from None


def say(text: str) -> None:
    """Write one line to stderr."""
    try:
        sys.stderr.write(f"speechbridge: {printable(text)}\n")
        sys.stderr.flush()
    except OSError:  # there is no other place to report it
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discard the buffer: otherwise Python writes it at exit, fails with a traceback, and changes the exit code."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def notice(text: str) -> None:
    """Write a notice to stderr, unless --quiet was given."""
    if _verbosity is not Verbosity.QUIET:
        say(text)


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
