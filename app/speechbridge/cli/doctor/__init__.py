"""`speechbridge doctor`: finds problems in a service's environment, and says how to fix each.

There is one module for each kind of subject; `_subjects` lists all subjects in the order of the report. The doctor
changes nothing, and shows no secret.
"""

import asyncio
import json
from contextlib import nullcontext
from typing import Annotated

import typer

from speechbridge.cli import exits
from speechbridge.cli.doctor import access, machine, proxy, resources, servers, upstream
from speechbridge.cli.doctor.findings import Case, Check, Finding, Mark, examine
from speechbridge.cli.doctor.web import origin_of
from speechbridge.cli.exits import BadInput
from speechbridge.cli.local import base_of
from speechbridge.cli.output import Quiet, Verbose, Verbosity, notice, verbosity, write
from speechbridge.cli.screen import Screen, minutes
from speechbridge.engines.embedded_process import START_SECONDS
from speechbridge.settings import Settings

HOLD = 60.0  # seconds: three pings of the service, and the default timeout of nginx

cli = typer.Typer(rich_markup_mode=None, add_completion=False)


def _subjects(hold: float) -> list[Check]:
    """List the checks, each with its time limit in seconds."""
    return [
        Check("python", 5, machine.python),
        Check("settings", 5, access.settings),
        Check("port", 15, machine.port),
        Check("keys", 5, access.keys),
        Check("origins", 5, access.origins),
        Check("memory", 5, resources.memory),
        Check("descriptors", 5, resources.descriptors),
        Check("threads", 5, resources.threads),
        Check("microphone", 20, machine.microphone),
        Check("upstream", START_SECONDS + 60, upstream.upstream),
        Check("relay", 30, upstream.others),
        Check("tls", 30, servers.tls),
        Check("clock", 30, servers.clock),
        Check("proxy", 60 + hold, proxy.proxy),
    ]


SUBJECTS = [check.subject for check in _subjects(0)]


@cli.command()
def command(
    url: Annotated[
        str | None, typer.Option(help="Public URL of a service to connect to as a browser does.", show_default=False)
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            help="Origin of a page that must be able to connect, as https://example.org.", show_default="of the service"
        ),
    ] = None,
    hold: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds for which a connection is held idle, to find timeouts.")
    ] = HOLD,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Leave a subject out; may be given several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object for each finding.")] = False,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Find problems, here or at a public URL, and how to fix them.

    Exit code 0: nothing is wrong. 1: something is. With --quiet, only problems are written.
    """
    exits.run(lambda: _examine(url, origin, hold, skip or [], as_json=as_json))


def _examine(url: str | None, origin: str | None, hold: float, skip: list[str], *, as_json: bool) -> int:
    for subject in skip:
        if subject not in SUBJECTS:
            raise BadInput(f"--skip {subject}: name one of {', '.join(SUBJECTS)}")
    if origin and not _is_origin(origin):
        raise BadInput(f"--origin {origin}: write it as browsers do, https://example.org, without a path")
    settings, troubles = Settings.examine()
    base = base_of(url) if url else ""
    holds = bool(base) and hold > 0 and "proxy" not in skip
    if holds:
        notice(f"this takes {hold:g} s, as a connection is held idle; --hold names another time")
    wrong = 0
    with Screen.on_stderr("holding a connection") if holds else nullcontext() as screen:

        def progress(seconds: float) -> None:
            if screen is not None:
                screen.bar(seconds / hold, f"{minutes(seconds)} / {minutes(hold)}")

        def found(finding: Finding) -> None:
            nonlocal wrong
            wrong += finding.mark is Mark.WRONG
            if finding.mark is Mark.WRONG or verbosity() is not Verbosity.QUIET:
                with screen.hidden() if screen is not None else nullcontext():
                    write(json.dumps(finding.as_dict()) + "\n" if as_json else finding.line())

        case = Case(settings, troubles, base, origin or "", hold, progress)
        asyncio.run(examine([check for check in _subjects(hold) if check.subject not in skip], case, found))
    return exits.FAILED if wrong else 0


def _is_origin(text: str) -> bool:
    try:
        return text == origin_of(text)
    except ValueError:  # the port is not a number
        return False
