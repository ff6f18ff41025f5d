"""An accessibility audit with axe-core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers.needs import axe

if TYPE_CHECKING:
    from playwright.async_api import Page

# The rules of all levels, and the best practices.
RULES = """axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  rules: { "color-contrast-enhanced": { enabled: true } } })"""


async def audit(page: Page) -> None:
    await page.evaluate(axe())
    found = await page.evaluate(RULES)
    assert found["passes"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
