"""The command line."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from speechbridge import logs
from speechbridge.cli import microphone, send, transcribe
from speechbridge.init import become_init
from speechbridge.protocol.request import PATH
from speechbridge.server.admission import make_key
from speechbridge.server.app import create_app
from speechbridge.server.run import Server, ServiceFailed
from speechbridge.settings import Settings, WrongSetting, describe, environment_warnings

logger = logging.getLogger(__name__)

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@cli.callback()
def speechbridge() -> None:
    """Live speech over WebSockets, through any sync-generator speech SDK."""


def _settings_help() -> str:
    # \\b keeps click from filling the lines into one paragraph
    lines = "\n".join(f"  {name}={default}\n      {what}" for name, default, what in describe())
    return f"\b\nSettings, by environment:\n{lines}"


@cli.command(epilog=_settings_help())
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on", show_default="8000")] = None,
) -> None:
    """Run the service until Ctrl-C. Everything else is set by environment variables, listed below."""
    become_init()
    settings = Settings.read(host=host, port=port)
    logs.configure(settings.log_level, settings.log_format)
    for warning in environment_warnings():
        logger.warning(warning)
    server = Server(create_app(settings), settings)
    with asyncio.Runner(loop_factory=server.loop_factory) as runner:  # uvloop's, where there is one
        runner.run(_serve(server))


@cli.command()
def key(name: Annotated[str, typer.Argument(help="whose key it is, as it shall stand in the settings")]) -> None:
    """Make an API key: stdout gets the line for SPEECHBRIDGE_API_KEYS or its file, stderr the key, this once."""
    try:
        made, line = make_key(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"The key, for {name}. It is shown this once; the service only knows its hash:\n{made}", err=True)
    typer.echo(line)


cli.command("transcribe")(transcribe.command)
cli.command("mic")(microphone.command)
cli.add_typer(send.commands, name="send")


async def _serve(server: Server) -> None:
    announcing = asyncio.create_task(_announce(server))
    try:
        await server.serve()
    finally:
        announcing.cancel()


async def _announce(server: Server) -> None:
    await server.has_started.wait()
    command = _command()
    typer.echo(
        f"""speechbridge is listening
  {server.url}{PATH}   Rev.ai's protocol: give its SDKs url={server.url}
  {server.url}/ws_a   16 kHz mono S16LE in, responses out
  {server.url.replace("ws", "http", 1)}   the page: open it and speak
Try it, in another terminal:  {command} transcribe FILE.wav
Ctrl-C ends it."""
    )


def _command() -> str:
    """Name ourselves as the person at the terminal can type it."""
    called = Path(sys.argv[0])
    if called.is_absolute() and called.is_relative_to(Path.cwd()):
        return str(called.relative_to(Path.cwd()))
    return str(called)


def main() -> None:
    """Run the command line; trouble that has a cure is one line on stderr."""
    try:
        cli()
    except WrongSetting as error:
        typer.echo(f"speechbridge: {error}", err=True)
        sys.exit(2)
    except ServiceFailed as error:
        typer.echo(f"speechbridge: {error}", err=True)
        sys.exit(1)
