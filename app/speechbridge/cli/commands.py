"""The command line: `speechbridge COMMAND`. A command's module is loaded when it runs, so that --help is quick."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from speechbridge.cli.output import OutputFailed, Quiet, Verbose, is_terminal, say, write

# Where each command is, and what the list of commands says of it.
COMMANDS = {
    "serve": ("serve", "Run the service until Ctrl-C."),
    "transcribe": ("transcribe", "Transcribe sound files, with live captions."),
    "mic": ("microphone", "Transcribe the microphone, with live captions, until Ctrl-C."),
    "send": ("send", "Echo a text, store a file, or ask the service's external server."),
    "key": ("key", "Make an API key."),
    "capacity": ("capacity", "Measure how many streams this machine carries."),
    "doctor": ("doctor", "Find what is wrong, here or at a public URL, and the cures."),
}


class LazyGroup(TyperGroup):
    """The commands, of which only the one that is asked for is loaded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment] # only its keys are read, to suggest one

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 # the parent's form
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 # the parent's form
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"speechbridge.cli.{COMMANDS[cmd_name][0]}")
        command = typer.main.get_command(module.cli)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 # the parent's form
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])


cli = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _show_version(given: bool) -> None:  # noqa: FBT001 # an option's callback
    if given:
        from speechbridge import __version__  # noqa: PLC0415 # its metadata takes a while to read

        write(f"speechbridge {__version__}\n")
        raise typer.Exit


@cli.callback()
def speechbridge(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Live speech over WebSockets, through any sync-generator speech SDK."""


def run() -> None:
    """Run the command that the arguments name. An error that has a cure is one line on stderr: see `exits`."""
    _open_standard_descriptors()
    _write_any_text()
    try:
        try:
            cli()
        finally:
            if sys.stdout is not None:
                write("")  # flushes what is left, of help for example: Python would do so at exit, with a traceback
    except OutputFailed as error:
        say(str(error))
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EBADF) or error.filename is not None:
            raise
        say(f"stdout cannot be written ({error.strerror})")  # of typer's own output
        sys.exit(1)


def _open_standard_descriptors() -> None:
    """Open /dev/null in the place of stdin, stdout and stderr that were closed when we were started.

    The next files that are opened would take these numbers: uvloop aborts on some of them, and whatever a library
    writes to stderr would end up in a socket.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free, so this one
    if sys.stderr is None:  # logging and libraries expect one; stdout stays None, so that a lost result can be told
        sys.stderr = os.fdopen(2, "w")


def _write_any_text() -> None:
    """Write transcripts in UTF-8, or to a terminal in its own encoding, with marks for what that does not know."""
    if sys.stdout is not None:
        if is_terminal(sys.stdout):
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # what Python makes of it at the start
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr] # the same
