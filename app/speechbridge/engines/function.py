"""Any function from audio to responses as an engine: a test's stub, another vendor's SDK, a few lines of your own."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbridge.engines import Engine, Upstream
from syncbridge import yielding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from speechbridge.protocol.request import StreamRequest


def plain(stream_client_start: Callable[..., Iterable[str]]) -> Engine:
    """Make an engine of `stream_client_start(audio)`, or of `stream_client_start(audio, request)`.

    Which of the two is told by its signature: a second positional parameter without a default gets the stream's
    `StreamRequest`.
    """
    wants_request = _takes_two(stream_client_start)

    def engine(request: StreamRequest) -> Upstream:
        if wants_request:
            return Upstream(yielding(str, lambda audio: stream_client_start(audio, request)))
        return Upstream(yielding(str, stream_client_start))

    return engine


def load(path: str) -> Callable[..., Any]:
    """Import `package.module:callable`, from the working directory too. Raises ValueError with what is wrong."""
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise ValueError(f"{path!r} is not of the form package.module:callable")
    if str(Path.cwd()) not in sys.path:  # a console script does not look there by itself
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module of somebody's may raise anything while it is imported
        raise ValueError(f"{path!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{path!r} is not callable")  # noqa: TRY004 # a wrong setting, whatever its type
    return found  # type: ignore[no-any-return] # what it takes and returns is its author's promise


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables of C have none; then it is the plain one
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [
        p for p in signature.parameters.values() if p.kind in positional and p.default is inspect.Parameter.empty
    ]
    return len(required) >= 2
