"""Blocking calls that cannot be interrupted and may never return, such as a DNS lookup."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_own_thread(call: Callable[[], T], name: str) -> T:
    """Make a blocking call in a new daemon thread called `name`; return its result, or raise its exception.

    In one of asyncio's own threads, a call that hangs would delay other calls, and keep `asyncio.run` from returning.

    Cancellation: takes effect at once. The thread ends when its call does, and the result is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if future.done():  # it was cancelled
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type] # without an error there is a result
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as failure:  # noqa: BLE001 # it is raised in the task that waits
            error = failure
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
