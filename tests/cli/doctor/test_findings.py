"""How checks run: all at once, each within its time, none hides another."""

from __future__ import annotations

import asyncio

from speechbridge.cli.doctor.findings import Case, Check, Finding, Mark, Report, examine
from speechbridge.settings import Settings

CASE = Case(Settings.examine()[0])


async def hang(_case: Case, report: Report) -> None:
    report.ok("it begins well")
    await asyncio.Event().wait()


async def fail(_case: Case, report: Report) -> None:
    report.note("it begins well")
    raise LookupError("secret")


async def time_out(_case: Case, _report: Report) -> None:
    raise TimeoutError


async def succeed(_case: Case, report: Report) -> None:
    report.ok("fine")


async def findings_of(*checks: Check) -> list[Finding]:
    found: list[Finding] = []
    await examine(checks, CASE, found.append)
    return found


async def test_a_check_that_hangs_is_a_finding_after_what_it_found() -> None:
    first, late, other = await findings_of(Check("a", 0.01, hang), Check("b", 5, succeed))
    assert (first.found, other.found) == ("it begins well", "fine")
    assert (late.subject, late.mark, late.found) == ("a", Mark.WRONG, "no answer within 0.01 s")


async def test_a_check_that_fails_is_a_finding_and_shows_no_text_of_the_error() -> None:
    first, failed, timed_out, other = await findings_of(
        Check("a", 5, fail), Check("b", 5, time_out), Check("c", 5, succeed)
    )
    assert first.mark is Mark.NOTE
    assert (failed.mark, failed.found) == (Mark.WRONG, "the check itself failed (LookupError)")
    assert timed_out.found == "the check itself failed (TimeoutError)"
    assert other.found == "fine"
    assert "secret" not in failed.line()


async def test_checks_run_at_once_and_are_told_in_order() -> None:
    second_ran = asyncio.Event()

    async def first(_case: Case, report: Report) -> None:
        await second_ran.wait()
        report.ok("first")

    async def second(_case: Case, report: Report) -> None:
        report.ok("second")
        second_ran.set()

    found = await findings_of(Check("a", 5, first), Check("b", 5, second))
    assert [finding.found for finding in found] == ["first", "second"]


async def test_cancelled_it_tells_what_was_found_and_leaves_nothing_behind() -> None:
    begun = asyncio.Event()
    found: list[Finding] = []

    async def begin(_case: Case, report: Report) -> None:
        report.ok("halfway")
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(
        examine([Check("a", 5, succeed), Check("b", 5, begin), Check("c", 5, succeed)], CASE, found.append)
    )
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert [finding.found for finding in found] == ["fine", "halfway", "fine"]


def test_a_finding_is_one_line_and_steers_no_terminal() -> None:
    line = Finding("port", Mark.WRONG, "a\nb\x1b[2J", "do this").line()
    assert line == "WRONG  port: a b [2J: do this\n"
