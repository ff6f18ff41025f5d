"""How many processes the service has, and where they run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from speechbridge.settings.groups import Group

MOST_WORKERS = 256


def _workers(text: str) -> str:
    if text != "auto" and not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_WORKERS):
        raise ValueError(f"{text!r} is not auto or a whole number from 1 to {MOST_WORKERS}")
    return text


class WorkerSettings(Group):
    """How many processes the service has, and where they run."""

    workers: Annotated[str, AfterValidator(_workers)] = Field(
        "1", description="processes that serve on the port, one core each; auto: as many as there are cores"
    )
    private_redis: Literal["on", "off"] = Field(
        "on",
        description="on: several workers without SPEECHBRIDGE_REDIS_URL share a Redis of their own, if its program is"
        " installed; off: they share none",
    )
    pin: Literal["on", "off"] = Field(
        "on",
        description="on: each worker is pinned to a core of its own, where the platform allows; off: for a speech SDK"
        " that computes in threads of this process",
    )
