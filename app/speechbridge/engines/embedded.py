"""The embedded recognizer as an engine: a process of ours that speaks Rev.ai's protocol, reached with Rev.ai's SDK."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.embedded_process import EmbeddedRecognizer
from speechbridge.engines.rev import RevEngine, Timeouts, rev_engine
from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from speechbridge.engines import Engine

# Starlette does not run the lifespan of an application that is mounted within another one.
NOT_RUN = Close(
    CloseCode.INTERNAL, "the recognizer was not started: run this app's lifespan in yours, as docs/embedding.md shows"
)
FORMATS = frozenset({"S16LE"})  # of raw audio; any other format is converted before


def embedded_recognizer(options: Mapping[str, object]) -> EmbeddedRecognizer:
    """Return the process, not yet started. `options` are those of its command line; empty ones and 0 are left out."""
    return EmbeddedRecognizer(*(str(part) for option in options.items() if option[1] for part in option))


def embedded_engine(
    options: Mapping[str, object], timeouts: Timeouts, elsewhere: Callable[[], str] | None = None
) -> Engine:
    """Return the engine. It runs its process with these options while the service runs.

    With `elsewhere` it runs none: `elsewhere` returns the URL of a recognizer that another process of the service runs.
    It may raise UpstreamClosed.
    """
    if elsewhere is not None:
        return _engine(RevEngine(elsewhere, "embedded", timeouts))
    recognizer = embedded_recognizer(options)
    has_run = threading.Event()

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        has_run.set()
        async with recognizer:
            yield

    def url() -> str:
        if not has_run.is_set():
            raise UpstreamClosed(NOT_RUN, is_retryable=False)
        return recognizer.url()

    return _engine(RevEngine(url, "embedded", timeouts), running)


def _engine(recognizer: RevEngine, running: Callable[[], AbstractAsyncContextManager[None]] = nullcontext) -> Engine:
    engine = rev_engine("embedded", recognizer, running)
    return replace(engine, capabilities=replace(engine.capabilities, formats=FORMATS))
