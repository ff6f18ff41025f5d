"""Assertions that wait until they hold, with Playwright's names."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.helpers.webdriver.page import PATIENCE, PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.webdriver.page import Locator

Wanted = str | re.Pattern[str]


def _equals(text: str | None, wanted: Wanted) -> bool:
    if text is None:
        return False
    return bool(wanted.search(text)) if isinstance(wanted, re.Pattern) else text == " ".join(wanted.split())


def _contains(text: str | None, wanted: Wanted) -> bool:
    if text is None:
        return False
    return bool(wanted.search(text)) if isinstance(wanted, re.Pattern) else " ".join(wanted.split()) in text


@dataclass
class Expectation:
    locator: Locator

    async def _until(self, holds: Callable[[dict[str, Any]], bool], wanted: object, **asked: str) -> None:
        end = time.monotonic() + PATIENCE
        while not holds(facts := await self.locator.facts(**asked)):
            assert time.monotonic() < end, f"{self.locator._steps}: expected {wanted!r}, found {facts}"
            await asyncio.sleep(PAUSE)

    async def to_have_text(self, wanted: Wanted) -> None:
        await self._until(lambda facts: _equals(facts.get("text"), wanted), wanted)

    async def not_to_have_text(self, wanted: Wanted) -> None:
        await self._until(lambda facts: not _equals(facts.get("text"), wanted), wanted)

    async def to_contain_text(self, wanted: Wanted) -> None:
        await self._until(lambda facts: _contains(facts.get("text"), wanted), wanted)

    async def not_to_contain_text(self, wanted: Wanted) -> None:
        await self._until(lambda facts: not _contains(facts.get("text"), wanted), wanted)

    async def to_have_count(self, count: int) -> None:
        await self._until(lambda facts: facts["count"] == count, count)

    async def to_be_visible(self) -> None:
        await self._until(lambda facts: bool(facts["isVisible"]), "visible")

    async def to_be_hidden(self) -> None:
        await self._until(lambda facts: not facts["isVisible"], "hidden")

    async def to_be_focused(self) -> None:
        await self._until(lambda facts: facts.get("isFocused", False), "focused")

    async def to_be_disabled(self) -> None:
        await self._until(lambda facts: facts.get("isDisabled", False), "disabled")

    async def to_have_value(self, value: str) -> None:
        await self._until(lambda facts: facts.get("value") == value, value)

    async def to_have_attribute(self, name: str, value: str) -> None:
        await self._until(lambda facts: facts.get("attribute") == value, value, attribute=name)

    async def to_have_css(self, name: str, value: Wanted) -> None:
        await self._until(lambda facts: _equals(facts.get("css"), value), value, css=name)
