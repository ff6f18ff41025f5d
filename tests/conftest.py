"""What applies to every test: asyncio, warnings are errors, and a guard against leaks."""

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
MARKED = {  # the mark of all tests in a folder
    HERE / "attacks": "slow",
    HERE / "bench": "slow",
    HERE / "chaos": "chaos",
    HERE / "cluster": "slow",  # most of them run a Redis
    HERE / "compat": "slow",
    HERE / "system" / "page": "browser",
}
FEW = 10  # failed tests that may be due to a busy machine; more are a real failure
PATIENCE = 5.0  # seconds for an ending thread to end


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a file descriptor behind.

    The guard joins threads first: a thread that is about to end needs a moment. Tests with a server that a whole module
    shares have the mark `shared_server`: the threads and sockets of that server come and go meanwhile.
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
    if opened:  # a reference cycle may hold them: collecting it makes Python warn, which fails the test with the reason
        gc.collect()
        opened = open_files() - files
    assert not opened, f"descriptors left: {opened}"


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Fail an async test that leaves a task running. Every async test uses it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks left: {left}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failed-to", type=Path, metavar="FILE", help="write the failed tests there, to run them again")


def pytest_configure() -> None:
    hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)  # for `make check`
    hypothesis.settings.register_profile("any machine", deadline=None)  # a busy machine must not fail a test
    hypothesis.settings.load_profile("any machine")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT by default
    secrets.install()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for _, text in report.sections:  # stdout and stderr of this process, and of children that inherit them
        secrets.check_for_secrets("output", text)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # of pytest-xdist: this worker sends its results to the main process
        session.config.workeroutput["secrets"] = secrets.FOUND, secrets.CHECKED
    if secrets.FOUND:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    to, reporter = session.config.option.failed_to, session.config.pluginmanager.get_plugin("terminalreporter")
    if to is not None and reporter is not None:
        bad = [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]
        found = dict.fromkeys(report.nodeid for report in bad if isinstance(report, pytest.TestReport))
        may_run_again = not secrets.FOUND and len(found) == len({report.nodeid for report in bad}) <= FEW
        to.write_text("\n".join(found) if may_run_again else "")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any) -> None:
    found, checked = getattr(node, "workeroutput", {}).get("secrets", ([], {}))
    secrets.FOUND.extend(found)
    for where, count in checked.items():
        secrets.CHECKED[where] += count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    checked = ", ".join(f"{count:,} characters of {where}" for where, count in secrets.CHECKED.items())
    terminalreporter.write_line(f"secrets: looked for in {checked}; found {len(secrets.FOUND)} times")
    for found in secrets.FOUND:
        terminalreporter.write_line(found, red=True)


@cache
def mark_of(folder: Path) -> str | None:
    """Return the mark of all tests in a folder, if there is one."""
    return next((mark for marked, mark in MARKED.items() if folder.is_relative_to(marked)), None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip a folder whose mark is deselected: importing what its tests need takes longer than many tests."""
    mark = MARKED.get(collection_path)
    return True if mark and f"not {mark}" in config.option.markexpr else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("anyio"):
            item.add_marker(pytest.mark.usefixtures("no_task_is_left"))
        if mark := mark_of(item.path.parent):
            item.add_marker(mark)


def pytest_collection_finish() -> None:
    """Exclude all objects made by imports from later garbage collections: these would scan them again for each test."""
    gc.collect()
    gc.freeze()
