"""What stands on stderr: one line an event, with its session, as JSON or for a person."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from contextlib import redirect_stderr
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge import logs
from tests.helpers.clip import READING
from tests.helpers.command import PATIENCE, STUB, serving, speechbridge, url_in
from tests.helpers.secrets import secret
from tests.helpers.service import client, ending, service

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put everything back that `configure` changes."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    root.handlers, root.level = before
    logging.captureWarnings(capture=False)


def configure(level: str, form: logs.Format = "auto", stream: io.StringIO | None = None) -> io.StringIO:
    """Log to what is returned, in place of stderr."""
    with redirect_stderr(stream or io.StringIO()) as told:
        logging.getLogger().handlers = []  # or those of the whole run would be closed
        logs.configure(level, form)
    return told


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_no_person_watches() -> None:
    stderr = configure("info")
    within = logs.session_id.set("abc")
    logging.getLogger("some.where").info("closed with %d", 1000, extra={"code": 1000})
    logs.session_id.reset(within)
    logging.getLogger("some.where").debug("not told")
    (line,) = lines(stderr)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "some.where",
        "message": "closed with 1000",
        "code": 1000,
        "session": "abc",
    }


@pytest.mark.parametrize(("form", "stream"), [("auto", Terminal()), ("text", io.StringIO())])
def test_text_for_a_person(form: logs.Format, stream: io.StringIO) -> None:
    configure("warning", form, stream)
    logging.getLogger("x").warning("careful")
    assert stream.getvalue().endswith(" WARNING [-] careful\n")


def test_json_on_a_terminal_when_that_is_asked_for() -> None:
    stderr = configure("info", "json", Terminal())
    logging.getLogger("x").info("said")
    assert lines(stderr)[0]["message"] == "said"


def test_whatever_is_told_is_one_line_of_json() -> None:
    """Tracebacks, warnings, dying threads, and what cannot be written as JSON."""

    def dies() -> None:
        raise KeyError("line one\nline two")

    stderr = configure("info")
    try:
        dies()
    except KeyError:
        logging.getLogger("x").exception("failed\nbadly", extra={"what": object(), "bytes": b"\xff", "set": {1}})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    thread = threading.Thread(target=dies, name="doomed")
    thread.start()
    thread.join()
    try:
        dies()
    except KeyError as error:
        sys.excepthook(KeyError, error, error.__traceback__)
    failed, warned, died, ended = lines(stderr)
    assert failed["message"] == "failed\nbadly"
    assert "in dies" in failed["traceback"]
    assert "old" in warned["message"]
    assert died["message"] == "thread doomed died"
    assert "in dies" in died["traceback"]
    assert ended["level"] == "CRITICAL"


@pytest.mark.parametrize("form", logs.FORMATS)
def test_a_token_in_a_librarys_line_or_an_exception_is_cut_out(form: logs.Format) -> None:
    def dies() -> None:
        raise OSError(f"no way to {url!r}")

    stderr, root = configure("info", form), logging.getLogger()
    (handler,) = root.handlers
    url = f"ws://host/?access_token={secret()}&language=en"
    try:
        dies()
    except OSError:
        record = root.makeRecord("lib", logging.INFO, "", 0, "GET %s", (url,), sys.exc_info())
    handler.handle(record)
    assert secret() not in stderr.getvalue()
    assert stderr.getvalue().count("access_token=...") == 2


async def test_a_session_logs_its_beginning_and_its_end_with_what_it_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def sdk(audio: Iterator[bytes]) -> Iterator[str]:
        yield str(sum(map(len, audio)))

    async with service(sdk) as server, client(server) as socket:
        await socket.send(bytes(16000))
        await socket.send(bytes(8000))
        await socket.send("EOS")
        await ending(socket)
    opened, closed = (record for record in caplog.records if record.name == "speechbridge.server.session")
    assert opened.getMessage().startswith("opened, audio/x-raw")
    expected = {
        "outcome": "completed",
        "code": 1000,
        "reason": "End of input. Closing",
        "chunks": 2,
        "chunks_upstream": 2,
        "responses": 1,
        "responses_out": 1,
        "seconds": 0.75,
        "seconds_replayed": 0.0,
        "seconds_lost": 0.0,
    }
    assert {name: closed.__dict__[name] for name in expected} == expected
    assert opened.__dict__["session"] == closed.__dict__["session"]


async def test_the_worker_thread_logs_with_its_sessions_id(caplog: pytest.LogCaptureFixture) -> None:
    def sdk(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        logging.getLogger("sdk").warning("from the worker")
        yield from ()

    async with service(sdk) as server:
        for _ in range(2):
            async with client(server) as socket:
                await socket.send("EOS")
                await ending(socket)
    workers = [record.__dict__["session"] for record in caplog.records if record.name == "sdk"]
    closed = [record.__dict__["session"] for record in caplog.records if "closed with" in record.getMessage()]
    assert workers == closed
    assert len(set(workers)) == 2


@pytest.mark.slow
def test_a_whole_service_with_its_recognizer_writes_json_and_nothing_else() -> None:
    with serving(SPEECHBRIDGE_RECOGNIZER_THREADS="1", SPEECHBRIDGE_LOG_LEVEL="debug") as (process, announced):
        ran = speechbridge("transcribe", "--pace", "fast", "--url", url_in(announced), str(READING))
        process.terminate()
        _, logged = process.communicate(timeout=PATIENCE)
    assert ran.returncode == 0
    told = [json.loads(line) for line in logged.splitlines()]
    assert "speechbridge.server.session" in {line["logger"] for line in told}
    assert all({"level", "message", "time"} <= line.keys() for line in told)


@pytest.mark.slow
def test_text_can_be_asked_for_by_setting() -> None:
    with serving(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_LOG_FORMAT="text") as (process, _):
        process.terminate()
        _, logged = process.communicate(timeout=PATIENCE)
    assert "INFO [-] Started server process" in logged
