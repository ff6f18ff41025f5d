"""Secrets for tests, and a check that none appears in a log, a metric, or the output of a process.

tests/conftest.py has the whole run checked. It fails at its end if one appeared, and says where.
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
KNOWN = {MARK}  # a secret of a certain form, in which the mark has no place, is added to these
TOLD: list[str] = []  # where a secret was told, and during which test
HEARD = {"logs": 0, "metrics": 0, "output": 0}  # characters checked: a check of nothing would prove nothing


def secret(what: str = "token") -> str:
    """Make a secret up."""
    return f"{MARK}-{what}"


def overhear(where: str, text: str) -> None:
    """Look for secrets in a text."""
    HEARD[where] += len(text)
    for value in KNOWN:
        if value in text:
            begin = text.index(value)
            test = os.environ.get("PYTEST_CURRENT_TEST", "between tests")
            TOLD.append(f"{test}: in the {where}: ...{text[max(0, begin - 60) : begin + 60]!r}...")


class Ear(logging.Handler):
    """Checks every record, in both formats; and that its JSON is valid and on one line."""

    def emit(self, record: logging.LogRecord) -> None:
        logs.add_session(record)
        line = logs.JSON.format(record)
        overhear("logs", line)
        overhear("logs", logs.TEXT.format(record))
        try:
            json.loads(line, parse_constant=_refuse)
            is_one_line = "\n" not in line
        except ValueError:
            is_one_line = False
        if not is_one_line:
            TOLD.append(f"no line of JSON: {line!r}")


def listen() -> None:
    """Check this process' loggers, and what its children write where a test reads it."""
    for name in ("websockets.client", "websockets.server"):  # of tests' own clients: at DEBUG they write all they say
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger().addHandler(Ear())
    communicate: Callable[..., Any] = subprocess.Popen.communicate

    def overheard(process: subprocess.Popen[Any], *arguments: Any, **named: Any) -> Any:
        both = communicate(process, *arguments, **named)
        for text in both:
            overhear("output", text.decode(errors="replace") if isinstance(text, bytes) else text or "")
        return both

    subprocess.Popen.communicate = overheard  # type: ignore[method-assign,assignment] # it takes what it is given


def everything_in(error: BaseException) -> str:
    """Return what a traceback would show."""
    shown = ""
    cause: BaseException | None = error
    while cause is not None:
        shown += repr(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return shown


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
