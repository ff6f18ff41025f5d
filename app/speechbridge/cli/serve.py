"""`speechbridge serve`: the service, until Ctrl-C or SIGTERM."""

import asyncio
import logging
import os
import shlex
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from speechbridge import cores, logs
from speechbridge.cli import exits
from speechbridge.cli.listening import listen, try_to_listen
from speechbridge.cli.local import reachable
from speechbridge.cli.output import OutputFailed, Quiet, Verbose, Verbosity, verbosity, write
from speechbridge.init import become_init
from speechbridge.protocol.request import PATH
from speechbridge.server import create_app
from speechbridge.server.run import Server, ServiceFailed, freeze, loop_factory
from speechbridge.server.workers.supervisor import Supervisor
from speechbridge.settings import Settings, describe, environment_warnings

logger = logging.getLogger(__name__)

cli = typer.Typer(rich_markup_mode=None, add_completion=False)

LOG_LEVEL = {Verbosity.QUIET: "warning", Verbosity.NORMAL: None, Verbosity.VERBOSE: "debug"}  # None: as set


def _settings_help() -> str:
    # \\b keeps click from joining the lines to one paragraph
    lines = "\n".join(f"  {name}={default}\n      {what}" for name, default, what in describe())
    return f"\b\nSettings, by environment:\n{lines}"


@cli.command(epilog=_settings_help())
def command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")] = None,
    workers: Annotated[
        str | None,
        typer.Option(help="Processes that share the port; auto: one for each core.", show_default="1"),
    ] = None,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Run the service until Ctrl-C. The environment variables below set everything else."""
    exits.run(lambda: _serve(host, port, workers))


def _serve(host: str | None, port: int | None, workers: str | None) -> None:
    become_init()
    settings = Settings.read(host=host, port=port, workers=workers, log_level=LOG_LEVEL[verbosity()])
    logs.configure(settings.log_level, settings.log_format)
    for warning in environment_warnings():
        logger.warning(warning)
    number = cores.count() if settings.workers == "auto" else int(settings.workers)
    try:
        service: Server | Supervisor
        if number > 1 and hasattr(socket, "send_fds"):
            service = Supervisor(settings, listen(settings), number)
        else:
            if number > 1:
                logger.warning("this platform has no way to share a port: one worker serves")
            service = _alone(settings)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:  # uvloop, if it is installed
            runner.run(_run(service, settings))
    except ServiceFailed as error:
        raise exits.Failed(str(error)) from None


def _alone(settings: Settings) -> Server:
    """Make a service of one process, pinned to one core if the platform allows it."""
    server = Server(create_app(settings), settings)
    try_to_listen(settings)
    freeze()
    if settings.pin == "on" and (chosen := cores.choose(cores.allowed(), 1)):
        cores.keep_to(chosen[0])
    return server


async def _run(service: Server | Supervisor, settings: Settings) -> None:
    announcing = asyncio.create_task(_announce(service, settings))
    try:
        await service.serve()
    finally:
        announcing.cancel()


async def _announce(service: Server | Supervisor, settings: Settings) -> None:
    await service.has_started.wait()
    if verbosity() is not Verbosity.QUIET:
        with suppress(OutputFailed):  # a broken stdout must not stop the service
            write(announcement(reachable(service.url), settings, _ourselves()))


def announcement(url: str, settings: Settings, ourselves: str) -> str:
    """Return the text for the person at the terminal. Its commands can be copied into another terminal unchanged."""
    page = url.replace("ws", "http", 1)
    lines = [
        "speechbridge is listening.",
        "",
        f"  {page}  the captions page: open it and speak",
        f"  {url}{PATH}  Rev.ai's protocol: its SDKs take url={url}",
        f"  {url}/ws_a  16 kHz mono S16LE in, responses out",
    ]
    if urlsplit(url).hostname != settings.host:
        lines += ["", f"It listens on {settings.host}: from elsewhere, use this machine's address or name."]
    option = "" if url == "ws://127.0.0.1:8000" else f" --url {shlex.quote(url)}"
    is_relative = "/" in ourselves and not shlex.split(ourselves)[0].startswith("/")
    lines += ["", f"In another terminal{', in this folder' if is_relative else ''}:"]
    if settings.api_keys.get_secret_value():
        # No comment in the line: an interactive zsh knows none. In a block of its own: `read` takes the next line.
        lines += [
            "  read -r SPEECHBRIDGE_KEY; export SPEECHBRIDGE_KEY",
            "",
            "Paste an API key there, and press Enter. Then:",
        ]
    lines += [f"  {ourselves} mic{option}", f"  {ourselves} transcribe{option} FILE...", "", "Ctrl-C stops it."]
    return "\n".join(lines) + "\n"


def _ourselves() -> str:
    """Return our own command, as one types it in another shell in this folder."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(_shortened(Path(sys.executable)))} -m speechbridge"
    is_activated = called.is_relative_to(os.environ.get("VIRTUAL_ENV", "/nowhere"))  # not in the other shell
    if not is_activated and shutil.which(called.name) == str(called):
        return called.name
    return shlex.quote(_shortened(called))


def _shortened(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)
