"""Cancels tasks, and waits until they have ended."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks or futures, and return once all of them have ended. Some may have ended already.

    Their results and exceptions are not raised here; the caller can ask the tasks for them afterwards.

    Cancellation: the tasks are cancelled once more, which interrupts a slow clean-up, and CancelledError is raised once
    all of them have ended. So no task outlives its owner, and no cancellation of the owner is lost.
    """
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
