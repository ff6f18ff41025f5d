"""Calling an SDK's start function, and naming what is wrong when it is not one."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

from syncbridge.errors import WrongStart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncbridge.types import In, Out, Start

logger = logging.getLogger(__name__)


def started(start: Start[In, Out], feed: Iterator[In]) -> Iterable[Out]:
    """Call an SDK's start function. Raises WrongStart if what it returns is not an iterable of responses.

    Strings, bytes and mappings are refused too: to iterate one yields its letters, numbers or keys.
    """
    returned = cast("object", start(feed))  # whatever it promised
    if inspect.iscoroutine(returned):
        returned.close()  # it is never awaited, which Python would warn of
        raise WrongStart("`start` is `async def`: await such an SDK directly, or give a plain function")
    if isinstance(returned, AsyncIterable):
        raise WrongStart("`start` returned an async iterator: iterate it with `async for`, without a bridge")
    if isinstance(returned, str | bytes | bytearray | memoryview | Mapping):
        raise WrongStart(f"`start` returned {_article(returned)}, which is one response: yield it instead")
    if not isinstance(returned, Iterable) and not hasattr(returned, "__getitem__"):  # the old form of an iterable
        raise WrongStart(f"`start` returned {_article(returned)}: it must yield its responses, or return an iterable")
    return cast("Iterable[Out]", returned)


def close(responses: object) -> None:
    """Close an SDK's responses, if they can be closed. What that raises changes nothing, and is logged."""
    try:
        getattr(responses, "close", lambda: None)()
    except BaseException:  # an SDK's clean-up may raise anything, SystemExit too; the outcome is known already
        logger.exception("closing the SDK's responses failed")


def yielding(kind: type[Out], start: Start[In, Out]) -> Start[In, Out]:
    """Make a start function that checks its responses. It raises WrongStart at the first that is not of a kind."""

    def checked(feed: Iterator[In]) -> Iterator[Out]:
        return _checked(started(start, feed), kind)  # it starts now, not at the first response

    return checked


def _checked(responses: Iterable[Out], kind: type[Out]) -> Iterator[Out]:
    try:
        for response in responses:
            if not isinstance(response, kind):
                raise WrongStart(f"the SDK yielded {_article(response)}: each response must be {_a(kind)}")
            yield response
    finally:
        close(responses)


def _article(value: object) -> str:
    return "None" if value is None else _a(type(value))


def _a(kind: type[object]) -> str:
    return f"{'an' if kind.__name__[0].lower() in 'aeiou' else 'a'} {kind.__name__}"
