"""The command line: `speechbridge COMMAND`. Only the module of the command that runs is loaded, so --help is quick."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from speechbridge.cli.output import OutputFailed, Quiet, Verbose, is_terminal, say, write

# The module of each command, and its text in the list of commands.
COMMANDS = {
    "serve": ("serve", "Run the service until Ctrl-C."),
    "transcribe": ("transcribe", "Transcribe sound files, with live captions."),
    "mic": ("microphone", "Transcribe the microphone, with live captions, until Ctrl-C."),
    "send": ("send", "Echo a text, store a file, or ask the service's external server."),
    "key": ("key", "Make an API key."),
    "capacity": ("capacity", "Measure how many streams this machine carries."),
    "doctor": ("doctor", "Find problems, here or at a public URL, and how to fix them."),
}


class LazyGroup(TyperGroup):
    """The group of all commands. It loads only the command that runs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # typer only reads the keys, to suggest a command after a misspelt one.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 # the parent's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 # the parent's signature
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"speechbridge.cli.{COMMANDS[cmd_name][0]}")
        command = typer.main.get_command(module.cli)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 # the parent's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])


cli = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _show_version(given: bool) -> None:  # noqa: FBT001 # an option's callback
    if given:
        from speechbridge import __version__  # noqa: PLC0415 # reading the package's metadata takes a while

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
    """Run the command that the arguments name. An expected error is one line on stderr: see `exits`."""
    _open_standard_descriptors()
    _write_any_text()
    try:
        try:
            cli()
        finally:
            if sys.stdout is not None:
                write("")  # flushes buffered output, such as help: at exit, Python would fail with a traceback
    except OutputFailed as error:
        say(str(error))
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EBADF) or error.filename is not None:
            raise
        say(f"stdout cannot be written ({error.strerror})")  # while typer wrote
        sys.exit(1)


def _open_standard_descriptors() -> None:
    """Open /dev/null in place of stdin, stdout and stderr if they were closed at the start of this process.

    Otherwise the next files would get these numbers: uvloop aborts on some of them, and whatever a library writes to
    stderr would go into a socket.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this descriptor
    if sys.stderr is None:  # logging and libraries need it; stdout stays None, so that `write` reports a lost result
        sys.stderr = os.fdopen(2, "w")


def _write_any_text() -> None:
    """Write UTF-8 to files and pipes. A terminal keeps its encoding; characters that it lacks are replaced."""
    if sys.stdout is not None:
        if is_terminal(sys.stdout):
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # a TextIOWrapper, at the start
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr] # the same
