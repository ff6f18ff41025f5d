"""What is logged: one line an event, as JSON where no person watches. The only import of python-json-logger.

The code logs through the standard library. A line that belongs to a session carries its id: the session's task sets it,
and the worker thread has a copy of that task's context. What a thread of an SDK's own may log has none.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TextIO, get_args

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger(__name__)

Format = Literal["auto", "text", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

TEXT = logging.Formatter("%(asctime)s %(levelname)s [%(session)s] %(message)s", defaults={"session": "-"})
JSON = JsonFormatter(
    ["levelname", "name", "message"],
    rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
    timestamp="time",
    reserved_attrs=[*RESERVED_ATTRS, "color_message", "websocket"],  # uvicorn's and websockets' own extras
)

TOKEN = re.compile(r"(access_token=)[^&\s\"'\\]+")

session_id: ContextVar[str] = ContextVar("session_id")


def configure(level: str, form: Format = "auto") -> None:
    """Log to stderr from now on: `auto` is text on a terminal, JSON elsewhere.

    Warnings, and what a thread or the program dies of, are logged as well: nothing else writes to stderr.
    """
    handler = Stderr()
    handler.addFilter(add_session)
    handler.setFormatter(TEXT if form == "text" or (form == "auto" and sys.stderr.isatty()) else JSON)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _died
    threading.excepthook = _thread_died


class Stderr(logging.StreamHandler[TextIO]):
    """Where lines go. None of ours holds a token; should a library's, or an exception's, it is cut out here."""

    def format(self, record: logging.LogRecord) -> str:
        return TOKEN.sub(r"\1...", super().format(record))


def add_session(record: logging.LogRecord) -> bool:
    """Give a record its session's id, if it was made within one. A filter that lets everything pass."""
    if (session := session_id.get(None)) is not None:
        record.session = session
    return True


def _died(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("died of %s", kind.__name__, exc_info=(kind, error, trace))


def _thread_died(died: threading.ExceptHookArgs) -> None:
    if died.exc_type is not SystemExit and died.exc_value is not None:
        name = died.thread.name if died.thread else "?"
        logger.error("thread %s died", name, exc_info=(died.exc_type, died.exc_value, died.exc_traceback))
