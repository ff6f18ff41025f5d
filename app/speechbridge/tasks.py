"""Ending tasks: cancel them, and wait until they have ended."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks or futures, and return once all of them have ended. Those that have ended already are fine.

    What they return or raise is dropped; whoever wants it asks the task afterwards.

    Cancellation: the tasks are cancelled once more, which cuts a slow clean-up short; CancelledError is raised once
    all of them have ended. So no task outlives its owner, and no cancellation of the owner is lost.
    """
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
