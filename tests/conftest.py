"""What every test lives under: asyncio, no warnings, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.helpers import secrets
from tests.helpers.descriptors import open_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HERE = Path(__file__).parent
MARKED = {  # all tests of these rooms
    HERE / "attacks": "slow",
    HERE / "bench": "slow",
    HERE / "chaos": "chaos",
    HERE / "cluster": "slow",  # with a Redis, most of them
    HERE / "compat": "slow",
    HERE / "system" / "page": "browser",
}
FEW = 10  # failed tests that may have failed because the machine was busy
PATIENCE = 5.0  # seconds within which what was told to end must have ended


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a file descriptor behind.

    A thread that was told to end is given time for its last instructions: `join` waits for them. Tests that use a
    fixture shared by a whole module (a server that stays up) mark themselves `shared_server`: that server's own
    threads and sockets come and go beside them.
    """
    if request.node.get_closest_marker("shared_server"):
        yield
        return
    threads, files = set(threading.enumerate()), open_files()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(PATIENCE)
    left = set(threading.enumerate()) - threads
    assert not left, f"threads left: {left}"
    opened = open_files() - files
    if opened:  # they may be held by garbage in a cycle: collected, it warns, and that fails the test
        gc.collect()
        opened = open_files() - files
    assert not opened, f"descriptors left: {opened}"


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Fail a test whose event loop still runs a task at its end. Every async test uses it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks left: {left}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failed-to", type=Path, metavar="FILE", help="write which tests failed, to be run again alone")


def pytest_configure() -> None:
    hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)  # for `make check`
    hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is no failure
    hypothesis.settings.load_profile("any machine")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, ignore it
    secrets.listen()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for _, text in report.sections:  # what was written to our own stdout and stderr, by children that inherit them too
        secrets.overhear("output", text)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes: it tells the one that reports
        session.config.workeroutput["overheard"] = secrets.TOLD, secrets.HEARD
    if secrets.TOLD:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    to, reporter = session.config.option.failed_to, session.config.pluginmanager.get_plugin("terminalreporter")
    if to is not None and reporter is not None:
        bad = [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]
        found = dict.fromkeys(report.nodeid for report in bad if isinstance(report, pytest.TestReport))
        is_all_told = not secrets.TOLD and len(found) == len({report.nodeid for report in bad}) <= FEW
        to.write_text("\n".join(found) if is_all_told else "")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_testnodedown(node: Any) -> None:
    told, heard = getattr(node, "workeroutput", {}).get("overheard", ([], {}))
    secrets.TOLD.extend(told)
    for where, count in heard.items():
        secrets.HEARD[where] += count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    heard = ", ".join(f"{count:,} characters of {where}" for where, count in secrets.HEARD.items())
    terminalreporter.write_line(f"secrets: looked for in {heard}; told {len(secrets.TOLD)} times")
    for told in secrets.TOLD:
        terminalreporter.write_line(told, red=True)


@cache
def mark_of(folder: Path) -> str | None:
    """Return the mark that all tests in a folder have, if there is one."""
    return next((mark for room, mark in MARKED.items() if folder.is_relative_to(room)), None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a room whose mark is left out: to import what its tests need takes longer than many tests."""
    mark = MARKED.get(collection_path)
    return True if mark and f"not {mark}" in config.option.markexpr else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("anyio"):
            item.add_marker(pytest.mark.usefixtures("no_task_is_left"))
        if mark := mark_of(item.path.parent):
            item.add_marker(mark)


def pytest_collection_finish() -> None:
    """Keep what the imports made out of later collections: each would look at all of it, and there is one a test."""
    gc.collect()
    gc.freeze()
