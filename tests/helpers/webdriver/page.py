"""Tabs and elements, with Playwright's names."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers.webdriver.driver import move, press, value_of

if TYPE_CHECKING:
    from tests.helpers.webdriver.driver import Driver

FIND = Path(__file__).with_name("find.js").read_text()
PATIENCE = 20.0  # seconds, as with Chromium
PAUSE = 0.05  # seconds between two checks of the page, which is in another process

# Scrolls like a mouse wheel, which WebKit's driver does not have.
SCROLLED = """([x, y]) => {
  let box = document.querySelector(":hover");
  while (box.querySelector(":scope > :hover")) box = box.querySelector(":scope > :hover");
  while (box && box.scrollHeight <= box.clientHeight) box = box.parentElement;
  box?.scrollBy({ left: x, top: y, behavior: "instant" });
}"""

VIEWPORT = {"width": 1280, "height": 720}  # Playwright's default


class Finder:
    """The common part of pages and elements: finds elements within them."""

    def __init__(self, page: Page, steps: tuple[dict[str, Any], ...] = ()) -> None:
        self._page = page
        self._steps = steps

    def _then(self, by: str, value: object, **more: object) -> Locator:
        return Locator(self._page, (*self._steps, {"by": by, "value": value, **more}))

    def locator(self, selector: str) -> Locator:
        return self._then("css", selector)

    def get_by_role(self, role: str, *, name: str | None = None, exact: bool = False) -> Locator:
        return self._then("role", role, name=name, isExact=exact)

    def get_by_label(self, text: str, *, exact: bool = False) -> Locator:
        return self._then("label", text, isExact=exact)

    def get_by_text(self, text: str, *, exact: bool = False) -> Locator:
        return self._then("text", text, isExact=exact)


class Locator(Finder):
    def nth(self, index: int) -> Locator:
        return self._then("nth", index)

    @property
    def first(self) -> Locator:
        return self.nth(0)

    @property
    def last(self) -> Locator:
        return self.nth(-1)

    async def evaluate(self, function: str, argument: object = None) -> Any:
        found = f"{FIND}.find({json.dumps(self._steps)})[0]"
        return await self._page.evaluate(f"({function}\n)({found}, {json.dumps(argument)})")

    async def facts(self, attribute: str = "", css: str = "") -> dict[str, Any]:
        """Return its properties that tests check: see find.js."""
        asked = ", ".join(map(json.dumps, (self._steps, attribute, css)))
        facts = await self._page.evaluate(f"{FIND}.facts({asked})")
        assert isinstance(facts, dict)
        return facts

    async def count(self) -> int:
        return int((await self.facts())["count"])

    async def inner_text(self) -> str:
        return str(await self.evaluate("it => it.innerText"))

    async def all_inner_texts(self) -> list[str]:
        found = f"{FIND}.find({json.dumps(self._steps)})"
        return list(await self._page.evaluate(f"{found}.map((it) => it.innerText)"))

    async def get_attribute(self, name: str) -> str | None:
        value = (await self.facts(attribute=name))["attribute"]
        return None if value is None else str(value)

    async def input_value(self) -> str:
        return str((await self.facts())["value"])

    async def bounding_box(self) -> dict[str, float]:
        return dict(
            await self.evaluate(
                "it => (({ x, y, width, height }) => ({ x, y, width, height }))(it.getBoundingClientRect())"
            )
        )

    async def _middle(self) -> dict[str, Any]:
        """Wait until it can be clicked and does not move; return its box."""
        before = None
        async with asyncio.timeout(PATIENCE):
            while True:
                box = await self._page.evaluate(f"{FIND}.middle({json.dumps(self._steps)})")
                if box and not box["isDisabled"] and box == before:
                    return dict(box)
                before = box
                await asyncio.sleep(PAUSE)

    async def hover(self) -> None:
        box = await self._middle()
        await self._page.mouse.move(box["left"] + box["width"] / 2, box["top"] + box["height"] / 2)

    async def click(self, *, position: dict[str, float] | None = None) -> None:
        box = await self._middle()
        at = position or {"x": box["width"] / 2, "y": box["height"] / 2}
        await self._page.mouse.click(box["left"] + at["x"], box["top"] + at["y"])

    async def focus(self) -> None:
        await self.evaluate("it => it.focus()")

    async def press(self, key: str) -> None:
        await self.focus()
        await self._page.keyboard.press(key)

    async def fill(self, text: str) -> None:
        await self.evaluate(
            """(it, text) => {
              it.focus();
              it.value = text;
              it.dispatchEvent(new Event("input", { bubbles: true }));
              it.dispatchEvent(new Event("change", { bubbles: true }));
            }""",
            text,
        )

    async def select_option(self, value: str) -> None:
        await self.fill(value)

    async def set_input_files(self, file: Path) -> None:
        found = f"{FIND}.find({json.dumps(self._steps)})[0]"
        await self._page.set_files(found, [file])


@dataclass
class Keyboard:
    _page: Page

    async def press(self, key: str) -> None:
        await self._page.act(press(key))

    async def type(self, text: str) -> None:
        for letter in text:
            await self.press(letter)


@dataclass
class Mouse:
    _page: Page

    async def move(self, x: float, y: float) -> None:
        await self._page.act(move(x, y))

    async def click(self, x: float, y: float) -> None:
        await self._page.act(move(x, y, click=True))

    async def wheel(self, x: float, y: float) -> None:
        await self._page.evaluate(SCROLLED, [x, y])


class Page(Finder):
    """A tab. `before` is JavaScript that runs in each document before its own scripts."""

    def __init__(self, driver: Driver, tab: str, before: str) -> None:
        super().__init__(self)
        self._driver = driver
        self._tab = tab
        self._before = before
        self.viewport_size = VIEWPORT
        self.keyboard = Keyboard(self)
        self.mouse = Mouse(self)

    @property
    def context(self) -> Page:
        return self  # its `new_page` opens a tab with the same storage

    async def new_page(self) -> Page:
        return Page(self._driver, await self._driver.open_tab(), "")

    async def add_init_script(self, before: str) -> None:
        self._before = before

    async def address(self) -> str:
        return str(await self.evaluate("location.href"))

    async def goto(self, url: str) -> None:
        await self._driver.navigate(self._tab, url, self._before)

    async def reload(self) -> None:
        await self.goto(await self.address())

    async def crash(self) -> Page:
        """Kill the renderer processes, and return a new tab."""
        await self._driver.kill_tabs()
        return await self.new_page()

    async def bring_to_front(self) -> None:
        await self._driver.activate(self._tab)

    async def close(self) -> None:
        await self._driver.close_tab(self._tab)

    async def evaluate(self, expression: str, argument: object = None) -> Any:
        return json.loads(await self._driver.run(self._tab, value_of(expression, argument)))

    async def act(self, actions: list[dict[str, Any]]) -> None:
        await self._driver.act(self._tab, actions)

    async def set_files(self, script: str, files: list[Path]) -> None:
        await self._driver.set_files(self._tab, script, files)

    async def set_viewport_size(self, size: dict[str, int]) -> None:
        self.viewport_size = size
        await self._driver.resize(self._tab, size["width"], size["height"])

    async def screenshot(self, *, path: Path) -> None:
        path.write_bytes(await self._driver.screenshot(self._tab))

    async def wait_for_timeout(self, milliseconds: float) -> None:
        await asyncio.sleep(milliseconds / 1000)

    async def until(self, is_so: str) -> None:
        end = time.monotonic() + PATIENCE
        while not await self.evaluate(is_so):
            assert time.monotonic() < end, f"never: {is_so}"
            await asyncio.sleep(PAUSE)
