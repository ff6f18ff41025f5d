"""The settings, the API keys, and the origins of pages that may connect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.cli.doctor.web import http_url, origin_of
from speechbridge.cli.local import local_url
from speechbridge.server.admission import Admission, Keys, Origins, WrongKeyLine
from speechbridge.settings import WrongSetting, environment_warnings, split

if TYPE_CHECKING:
    from pathlib import Path

    from speechbridge.cli.doctor.findings import Case, Report

KEYS = "SPEECHBRIDGE_API_KEYS"  # the check `keys` reports errors of this setting, and of the one for its file
CURE = "put the line there that `speechbridge key NAME` prints on stdout, one for each key"


async def settings(case: Case, report: Report) -> None:
    troubles = list(case.troubles)
    try:
        Admission(case.settings)
    except WrongSetting as error:
        troubles.append(str(error))
    for trouble in troubles:
        if not trouble.startswith(KEYS):
            found, _, cure = trouble.partition(": ")
            report.wrong(found, cure)
    for warning in environment_warnings():
        report.note(warning)
    if not report.findings:
        report.ok("all are valid")


async def keys(case: Case, report: Report) -> None:
    """Check the file of API keys, and count the keys. Never shows a line of it: it may be a key."""
    path = case.settings.api_keys_file
    if path is not None:
        _key_file(path, report)
    lines = split(case.settings.api_keys.get_secret_value())
    if not report.findings:
        try:
            Keys(lines)
        except WrongKeyLine as error:
            report.wrong(f"{case.settings.place_of_key(error.index)} is not of the form NAME:SHA256", CURE)
    good = sum(_is_key_line(line) for line in lines)
    if good:
        report.ok(f"{good} API key{'s' if good > 1 else ''} may connect")
    elif not report.findings:
        who = "this machine reaches the service" if case.settings.is_private else "others reach the service"
        report.note(f"no API key is set; {who}")


def _key_file(path: Path, report: Report) -> None:
    name = f"SPEECHBRIDGE_API_KEYS_FILE: {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        report.wrong(f"{name} cannot be read ({error.strerror})", "name a file that this user can read")
        return
    except UnicodeDecodeError:
        report.wrong(f"{name} is not a text file", CURE)
        return
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    if not lines:
        report.wrong(f"{name} holds no key", CURE)
    for number, line in lines:
        if not all(_is_key_line(part) for part in split(line)):
            report.wrong(f"{name}: line {number} is not of the form NAME:SHA256", CURE)


def _is_key_line(line: str) -> bool:
    try:
        return bool(Keys([line]))
    except WrongKeyLine:
        return False


async def origins(case: Case, report: Report) -> None:
    """Report whether a page of the given origin may connect, according to the settings of this machine."""
    known = case.settings
    allowed = split(known.origins)
    keyed = bool(split(known.api_keys.get_secret_value()))
    if case.origin:
        host = http_url(local_url(known)).partition("://")[2]
        if case.url:
            return  # the check `proxy` asks that service
        if Origins(allowed, keyed=keyed).allow([case.origin], host, has_cookie=False):
            report.ok(f"pages of {case.origin} may connect")
        else:
            report.wrong(
                f"pages of {case.origin} may not connect (close code 4036)",
                f"set SPEECHBRIDGE_ORIGINS={','.join([*allowed, case.origin])}",
            )
        return
    for origin in allowed:
        if origin != origin_of(origin):
            report.note(f"{origin}: browsers write {origin_of(origin)}")
    own = "the service's own page" if keyed or known.is_private else "no page"
    report.ok(f"may connect: {', '.join([own, *allowed])}")
