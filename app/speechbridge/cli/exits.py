"""How a command ends: an error is one line on stderr, and an exit code.

    0    done
    1    the service, the connection or stdout failed: worth another try. `doctor` found something wrong
    2    the input, an option or a setting is wrong: the same again fails again
    130  interrupted by Ctrl-C

docs/command-line.md has this table for users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from speechbridge.cli.output import OutputFailed, say
from speechbridge.client.dial import NoConnection
from speechbridge.client.stream import StreamError
from speechbridge.settings import WrongSetting

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED, WRONG, INTERRUPTED = 1, 2, 130


class Failed(Exception):
    """The service did not do what was asked for. Its text says why, and the cure."""


class BadInput(Exception):
    """A file, a text or an option cannot be used. Its text names it, and the cure."""


def run(action: Callable[[], int | None]) -> None:
    """Run a command's action and end: raises typer.Exit, with what the action returns (None: 0) or how it failed."""
    try:
        code = action() or 0
    except (NoConnection, StreamError, Failed, OutputFailed) as error:
        say(str(error))
        code = FAILED
    except (BadInput, WrongSetting) as error:
        say(str(error))
        code = WRONG
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)
