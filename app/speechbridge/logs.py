"""The format of the log: one line per event, JSON unless stderr is a terminal. The only import of python-json-logger.

The code logs through the standard library. A line that belongs to a session has its id. The session's task sets it, and
the worker thread runs in a copy of that task's context. Threads that an SDK starts itself have no session id.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Literal, TextIO, get_args

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger(__name__)

Format = Literal["auto", "text", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

TEXT = logging.Formatter("%(asctime)s %(levelname)s [%(session)s] %(message)s", defaults={"session": "-"})
OF_WORKER = "%(asctime)s %(levelname)s [worker %(worker)s] [%(session)s] %(message)s"
JSON = JsonFormatter(
    ["levelname", "name", "message"],
    rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
    timestamp="time",
    reserved_attrs=[*RESERVED_ATTRS, "color_message", "websocket"],  # uvicorn's and websockets' own extras
)

TOKEN = re.compile(r"(access_token=)[^&\s\"'\\]+")

READER = re.compile(r"(/read/)[^\s/.\"']+")  # the path of those who read along; `protocol.reading` has it

SERVERS = ("uvicorn.error", "uvicorn.access", "gunicorn.access", "hypercorn.access", "hypercorn.error")

session_id: ContextVar[str] = ContextVar("session_id")


def configure(level: str, form: Format = "auto", worker: str = "") -> None:
    """Log to stderr from now on: `auto` is text on a terminal, JSON elsewhere. Each line names the worker, if given.

    Python's warnings and uncaught exceptions are logged as well, so that nothing else writes to stderr.
    """
    handler = Stderr()
    handler.addFilter(add_session)
    text = TEXT
    if worker:
        text = logging.Formatter(OF_WORKER, defaults={"session": "-"})
        handler.addFilter(partial(_add_worker, worker))
    handler.setFormatter(text if form == "text" or (form == "auto" and sys.stderr.isatty()) else JSON)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread_uncaught


class WithoutQueries(logging.Filter):
    """Remove the query of each URL that a server logs: it holds access tokens. Some clients encode the "?"."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(arg) for arg in record.args)
        elif isinstance(record.args, dict):
            record.args = {name: _without_query(arg) for name, arg in record.args.items()}
        return True


def _without_query(arg: object) -> object:
    """Cut a URL, or a request's first line, where its query begins, and a reader's token; what comes after it stays."""
    if not isinstance(arg, str):
        return arg
    return READER.sub(r"\1...", re.sub(r"(\?|%3F)\S*", "", arg, flags=re.IGNORECASE))


def hide_queries() -> None:
    """Hide access tokens from the log of any server that runs the application, whoever started it. Idempotent."""
    for name in SERVERS:
        found = logging.getLogger(name)
        if not any(isinstance(present, WithoutQueries) for present in found.filters):
            found.addFilter(WithoutQueries())


class Stderr(logging.StreamHandler[TextIO]):
    """Writes to stderr, without access tokens. Our own lines hold none, but a library's or an exception's may."""

    def format(self, record: logging.LogRecord) -> str:
        return READER.sub(r"\1...", TOKEN.sub(r"\1...", super().format(record)))


def add_session(record: logging.LogRecord) -> bool:
    """Add the session's id to a record that was made within one. A filter that lets every record pass."""
    if (session := session_id.get(None)) is not None:
        record.session = session
    return True


def _add_worker(worker: str, record: logging.LogRecord) -> bool:
    record.worker = worker
    return True


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("the program ends with %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread_uncaught(died: threading.ExceptHookArgs) -> None:
    if died.exc_type is not SystemExit and died.exc_value is not None:
        name = died.thread.name if died.thread else "?"
        logger.error("thread %s died", name, exc_info=(died.exc_type, died.exc_value, died.exc_traceback))
