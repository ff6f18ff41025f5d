"""`speechbridge key NAME`: makes an API key, and the line of the settings that allows it."""

from typing import Annotated

import typer

from speechbridge.cli import exits
from speechbridge.cli.output import Quiet, Verbose, write
from speechbridge.server.admission import make_key

cli = typer.Typer(rich_markup_mode=None, add_completion=False)


@cli.command()
def command(
    name: Annotated[str, typer.Argument(help="The name of the key's owner, as it will appear in the settings.")],
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Make an API key.

    stdout gets the line for SPEECHBRIDGE_API_KEYS or its file. stderr gets the key itself, which is shown only once.
    """
    exits.run(lambda: _make(name))


def _make(name: str) -> None:
    try:
        key, line = make_key(name)
    except ValueError as error:
        raise exits.BadInput(str(error)) from None
    write(f"{line}\n")
    typer.echo(f"The key of {name}. It is shown only once, as the service stores only its hash:\n{key}", err=True)
