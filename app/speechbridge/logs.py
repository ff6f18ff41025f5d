"""The format of the log: one line per event, JSON unless stderr is a terminal.

The code logs through the standard library; python-json-logger is imported here only. A line that belongs to a session
has the session's id. The session's task sets the id, and the worker thread runs in a copy of that task's context.
Threads that an SDK starts itself have no session id.
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
    reserved_attrs=[*RESERVED_ATTRS, "color_message", "websocket"],  # extras of uvicorn and websockets, not logged
)

TOKEN = re.compile(r"(access_token=)[^&\s\"'\\]+")

READER = re.compile(r"(/read/)[^\s/.\"']+")  # the path of a shared transcript, with its token; see `protocol.reading`

SERVERS = ("uvicorn.error", "uvicorn.access", "gunicorn.access", "hypercorn.access", "hypercorn.error")

session_id: ContextVar[str] = ContextVar("session_id")


def configure(level: str, form: Format = "auto", worker: str = "") -> None:
    """Log to stderr from now on. `auto` is text on a terminal, JSON elsewhere. Each line names `worker`, if given.

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
    """Removes the query from each URL that a server logs, because it may hold an access token."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(arg) for arg in record.args)
        elif isinstance(record.args, dict):
            record.args = {name: _without_query(arg) for name, arg in record.args.items()}
        return True


def _without_query(arg: object) -> object:
    """Remove the query, and a reader's token, from a URL or a request's first line. Some clients encode the "?"."""
    if not isinstance(arg, str):
        return arg
    return READER.sub(r"\1...", re.sub(r"(\?|%3F)\S*", "", arg, flags=re.IGNORECASE))


def hide_queries() -> None:
    """Keep access tokens out of the log of any ASGI server that may run the application. Idempotent."""
    for name in SERVERS:
        found = logging.getLogger(name)
        if not any(isinstance(present, WithoutQueries) for present in found.filters):
            found.addFilter(WithoutQueries())


class Stderr(logging.StreamHandler[TextIO]):
    """Writes to stderr, without access tokens. Our own lines hold none, but those of libraries or exceptions may."""

    def format(self, record: logging.LogRecord) -> str:
        return READER.sub(r"\1...", TOKEN.sub(r"\1...", super().format(record)))


def add_session(record: logging.LogRecord) -> bool:
    """Add the session's id to a record that was made within a session. A filter that lets every record pass."""
    if (session := session_id.get(None)) is not None:
        record.session = session
    return True


def _add_worker(worker: str, record: logging.LogRecord) -> bool:
    record.worker = worker
    return True


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("the program ends with %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread_uncaught(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        name = args.thread.name if args.thread else "?"
        logger.error("thread %s died", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
