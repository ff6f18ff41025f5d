"""Blocking calls that nothing can interrupt and that may never return: a DNS lookup above all."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_own_thread(call: Callable[[], T], name: str) -> T:
    """Make a blocking call in a daemon thread of its own, called `name`; return or raise what the call does.

    In one of asyncio's own threads, a call that hangs would keep others waiting, and keep `asyncio.run` from returning.

    Cancellation: returns at once. The thread is left behind; it ends when its call does, and the result is dropped.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if found.done():  # it was cancelled
            return
        if error is None:
            found.set_result(result)  # type: ignore[arg-type] # without an error there is a result
        else:
            found.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as failure:  # noqa: BLE001 # raised in the task that waits
            error = failure
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await found
