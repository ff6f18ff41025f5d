"""Servers that others run, seen from this machine: whether their certificates are trusted, and whether clocks agree."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from speechbridge.cli.doctor.web import Unanswered, fetch, http_url
from speechbridge.client.dial import service_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.cli.doctor.findings import Case, Report

CLOCK_SECONDS = 60.0  # by which clocks may differ. A Date header has whole seconds, and an answer takes one or two
BREAKS = "certificates seem expired or not yet valid, and the times in logs and metrics are wrong"


def _servers(case: Case) -> Iterator[tuple[str, str]]:
    """Yield what each of these servers is, and its URL."""
    if case.url:
        yield "the public URL", http_url(case.url, "/livez")
    if case.settings.upstream_url and not case.settings.start:
        yield "the speech service", http_url(service_address(case.settings.upstream_url, "").url, "/")


async def tls(case: Case, report: Report) -> None:
    """Check each server's certificate as a client does. Other checks report other problems."""
    for what, url in _servers(case):
        if not url.startswith("https:"):
            continue
        try:
            await fetch(url)
        except Unanswered as trouble:
            if trouble.is_certificate:
                report.wrong(f"{what}: {trouble}", trouble.cure)
            else:
                report.note(f"{what}: {trouble}")
            continue
        report.ok(f"{what}: its certificate is trusted")
    if not report.findings:
        report.note(f"no server is reached with TLS; trusted authorities come from {_authorities()}")


def _authorities() -> str:
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or "nowhere"


async def clock(case: Case, report: Report, now: Callable[[], float] = time.time) -> None:
    """Compare our clock with the Date header of each server.

    The certificate is not verified, as a wrong clock of ours is one reason to reject it. Nothing secret is sent.
    """
    for what, url in _servers(case):
        try:
            answer = await fetch(url, checks_certificate=False)
        except Unanswered:  # another check reports it
            continue
        offset = _offset(answer.headers.get("date", ""), now())
        if offset is None:
            continue
        if abs(offset) < CLOCK_SECONDS:
            report.ok(f"it agrees with {what}")
        else:
            report.wrong(
                f"this clock is {_duration(abs(offset))} {'ahead of' if offset > 0 else 'behind'} that of {what}, so"
                f" {BREAKS}",
                "set it, and keep it right with NTP (timedatectl set-ntp true); if it is right, the server's is wrong",
            )
    if not report.findings:
        report.note("there is no server to compare it with", "give --url, or set a speech service elsewhere")


def _offset(date: str, now: float) -> float | None:
    """Return by how many seconds `now` is ahead of a Date header; None if that is not a date."""
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length - length / 2:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
