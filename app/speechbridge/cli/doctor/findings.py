"""The doctor's findings, how they are written, and how the checks run: all at once, each with a time limit."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from speechbridge.protocol.captions import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from speechbridge.settings import Settings


class Mark(StrEnum):
    OK = "ok"
    NOTE = "note"  # information, or a subject that could not be checked; not a problem
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `cure` is empty if nothing needs to be done."""

    subject: str
    mark: Mark
    found: str
    cure: str = ""

    def line(self) -> str:
        text = f"{self.found}: {self.cure}" if self.cure else self.found
        return printable(f"{self.mark:<5}  {self.subject}: {text}") + "\n"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class Report:
    """Collects the findings of one subject."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.findings: list[Finding] = []

    def ok(self, found: str) -> None:
        self.findings.append(Finding(self.subject, Mark.OK, found))

    def note(self, found: str, cure: str = "") -> None:
        self.findings.append(Finding(self.subject, Mark.NOTE, found, cure))

    def wrong(self, found: str, cure: str) -> None:
        self.findings.append(Finding(self.subject, Mark.WRONG, found, cure))


@dataclass(frozen=True, slots=True)
class Case:
    """What the checks examine: the settings of this machine, and the public URL of a service if one was given."""

    settings: Settings
    troubles: Sequence[str] = ()  # errors of wrong settings, which have their defaults in `settings`
    url: str = ""  # base URL, ws:// or http://
    origin: str = ""  # of a page that must be able to connect; empty: the service's own
    hold: float = 0.0  # seconds for which an idle connection is held
    progress: Callable[[float], object] = lambda _seconds: None  # called with the seconds held so far


@dataclass(frozen=True, slots=True)
class Check:
    """Examines one subject within `seconds`."""

    subject: str
    seconds: float
    run: Callable[[Case, Report], Awaitable[None]]


async def examine(checks: Sequence[Check], case: Case, found: Callable[[Finding], object]) -> None:
    """Run all checks at once. Call `found` with each finding as soon as possible, in the order of the checks.

    A check that fails, or takes too long, is a finding itself, after those that it has made before.

    Cancellation: all checks are ended, and `found` is called with the findings made so far.
    """
    reports = [Report(check.subject) for check in checks]
    tasks = [
        asyncio.create_task(_run(check, case, report), name=f"doctor-{check.subject}")
        for check, report in zip(checks, reports, strict=True)
    ]
    reported = 0
    try:
        for task, report in zip(tasks, reports, strict=True):
            await asyncio.wait({task})
            for finding in report.findings:
                found(finding)
            reported += 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for report in reports[reported:]:
            for finding in report.findings:
                found(finding)


async def _run(check: Check, case: Case, report: Report) -> None:
    try:
        async with asyncio.timeout(check.seconds) as limit:
            await check.run(case, report)
    except TimeoutError as error:
        if not limit.expired():
            _failed(report, error)
        else:
            report.wrong(
                f"no answer within {check.seconds:g} s", "try again; if this happens each time, something hangs"
            )
    except Exception as error:  # noqa: BLE001 # a bug in one check must not hide the findings of the others
        _failed(report, error)


def _failed(report: Report, error: Exception) -> None:
    report.wrong(f"the check itself failed ({type(error).__name__})", "run it with --verbose, and report a bug")
