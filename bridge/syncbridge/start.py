"""Calls an SDK's start function, and explains what is wrong when the function is not one."""

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

    Strings, bytes and mappings are refused, too: they are iterables, but of letters, numbers or keys.
    """
    returned = cast("object", start(feed))  # its declared type may be wrong
    if inspect.iscoroutine(returned):
        returned.close()  # otherwise Python warns that it was never awaited
        raise WrongStart("`start` is `async def`: await such an SDK directly, or give a plain function")
    if isinstance(returned, AsyncIterable):
        raise WrongStart("`start` returned an async iterator: iterate it with `async for`, without a bridge")
    if isinstance(returned, str | bytes | bytearray | memoryview | Mapping):
        raise WrongStart(f"`start` returned {_described(returned)}, which is one response: yield it instead")
    if not isinstance(returned, Iterable) and not hasattr(returned, "__getitem__"):  # the old form of an iterable
        raise WrongStart(f"`start` returned {_described(returned)}: it must yield its responses, or return an iterable")
    return cast("Iterable[Out]", returned)


def close(responses: object) -> None:
    """Close an SDK's responses, if they can be closed. An error in that is logged and has no other effect."""
    try:
        getattr(responses, "close", lambda: None)()
    except BaseException:  # an SDK's clean-up may raise anything, even SystemExit; the outcome is set already
        logger.exception("closing the SDK's responses failed")


def yielding(kind: type[Out], start: Start[In, Out]) -> Start[In, Out]:
    """Wrap a start function so that its responses are checked: the first that is not a `kind` raises WrongStart."""

    def checked(feed: Iterator[In]) -> Iterator[Out]:
        return _checked(started(start, feed), kind)  # `start` is called now, not at the first response

    return checked


def _checked(responses: Iterable[Out], kind: type[Out]) -> Iterator[Out]:
    try:
        for response in responses:
            if not isinstance(response, kind):
                raise WrongStart(f"the SDK yielded {_described(response)}: each response must be {_a(kind)}")
            yield response
    finally:
        close(responses)


def _described(value: object) -> str:
    return "None" if value is None else _a(type(value))


def _a(kind: type[object]) -> str:
    return f"{'an' if kind.__name__[0].lower() in 'aeiou' else 'a'} {kind.__name__}"
