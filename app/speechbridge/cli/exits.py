"""How a command ends: an error is one line on stderr, and an exit code.

    0    done
    1    the service, the connection or stdout failed: another try may succeed. Of `doctor`: something is wrong
    2    the input, an option or a setting is wrong: the same command will fail again
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
    """The service could not carry out the command. The text says why, and what to do."""


class BadInput(Exception):
    """A file, a text or an option cannot be used. The text says which, and what to do."""


def run(action: Callable[[], int | None]) -> None:
    """Run a command's action, and raise typer.Exit with what it returns (None: 0), or with the code of its error."""
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
