"""Secrets for tests, and a check that none appears in a log, a metric, or the output of a process.

tests/conftest.py applies the check to every test run, which fails at its end if a secret appeared, and reports where.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from typing import TYPE_CHECKING, Any, NoReturn

from speechbridge import logs

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "S3CRET"
KNOWN = {MARK}  # tests add secrets whose form does not allow the mark
FOUND: list[str] = []  # where a secret appeared, and in which test
CHECKED = {"logs": 0, "metrics": 0, "output": 0}  # characters checked: shows that there was something to check


def secret(what: str = "token") -> str:
    """Return a made-up secret that contains the mark."""
    return f"{MARK}-{what}"


def check_for_secrets(where: str, text: str) -> None:
    """Look for secrets in a text."""
    CHECKED[where] += len(text)
    for value in KNOWN:
        if value in text:
            begin = text.index(value)
            test = os.environ.get("PYTEST_CURRENT_TEST", "between tests")
            FOUND.append(f"{test}: in the {where}: ...{text[max(0, begin - 60) : begin + 60]!r}...")


class CheckingHandler(logging.Handler):
    """Checks every log record in both formats, and that its JSON is valid and on one line."""

    def emit(self, record: logging.LogRecord) -> None:
        logs.add_session(record)
        line = logs.JSON.format(record)
        check_for_secrets("logs", line)
        check_for_secrets("logs", logs.TEXT.format(record))
        try:
            json.loads(line, parse_constant=_refuse)
            is_one_line = "\n" not in line
        except ValueError:
            is_one_line = False
        if not is_one_line:
            FOUND.append(f"not a line of JSON: {line!r}")


def install() -> None:
    """Check all logs of this process, and the output of its children that a test reads with `communicate`."""
    for name in ("websockets.client", "websockets.server"):  # of tests' own clients: at DEBUG they log their messages
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger().addHandler(CheckingHandler())
    communicate: Callable[..., Any] = subprocess.Popen.communicate

    def checked(process: subprocess.Popen[Any], *arguments: Any, **named: Any) -> Any:
        both = communicate(process, *arguments, **named)
        for text in both:
            check_for_secrets("output", text.decode(errors="replace") if isinstance(text, bytes) else text or "")
        return both

    subprocess.Popen.communicate = checked  # type: ignore[method-assign,assignment] # it passes all arguments on


def everything_in(error: BaseException) -> str:
    """Return what a traceback would show."""
    shown = ""
    cause: BaseException | None = error
    while cause is not None:
        shown += repr(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return shown


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
