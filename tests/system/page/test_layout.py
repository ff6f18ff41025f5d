"""Captions are readable: where they stand, what is dim, on a wall and on a phone, in every size, font and theme."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from speechbridge.protocol.messages import Element, Partial
from tests.helpers.browser import captions, every_engine, expect, happens, opened, refuse, speech, state, until
from tests.helpers.lines import LINES, final, talk
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Page

MANY = [f"Line {number} of a long evening, which goes on and on." for number in range(30)]


# MiniBrowser needs a window manager for full screen, and the tests have none.
WALLS = pytest.mark.parametrize("engine", ["chromium", "firefox"], indirect=True)


async def start(page: Page) -> None:
    await page.keyboard.press("Space")
    await state(page, "live")


@every_engine
async def test_captions_begin_at_the_top_and_fill_the_screen() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 3)
        box = await page.locator("#captions").bounding_box()
        first = await page.locator("#finals > div").first.bounding_box()
        window = page.viewport_size
        assert box
        assert first
        assert window
        assert first["y"] - box["y"] < 30
        assert box["width"] == window["width"]
        assert box["height"] > window["height"] * 0.7


@every_engine
async def test_only_the_words_of_a_partial_that_may_still_change_are_dim() -> None:
    more = threading.Semaphore(0)
    guesses = ["the whether", "the weather is", "the weather is nice", "the weather is nice to day"]

    def start_sdk(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio, None)
        for guess in guesses:
            yield Partial(0.0, 0.2, tuple(Element(word) for word in guess.split())).encode()
            more.acquire(timeout=20)
        yield final(0, "the weather is nice today").encode()
        for _ in audio:
            pass

    async with service(start_sdk) as server, opened(server.url) as page:
        await start(page)
        partial, stable, unstable = (page.locator(f"#{name}") for name in ("partial", "stable", "unstable"))
        settled = ["", "the ", "the weather is ", "the weather is nice "]
        for guess, expected in zip(guesses, settled, strict=True):
            await expect(partial).to_have_text(guess)
            assert await stable.evaluate("it => it.textContent") == expected
            more.release()
        await until(page, 1)
        ink = await page.locator("#finals p").evaluate("it => getComputedStyle(it).color")
        assert await stable.evaluate("it => getComputedStyle(it).color") == ink
        assert await unstable.evaluate("it => getComputedStyle(it).color") != ink


@WALLS
async def test_on_a_wall_captions_fill_the_screen_and_the_controls_fade() -> None:
    async with service(talk(MANY)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 30)
        await page.keyboard.press("f")
        await happens(page, "document.fullscreenElement !== null")
        for controls in ("header", "footer"):
            await expect(page.locator(controls).first).to_have_css("opacity", "0")
        box = await page.locator("#captions").bounding_box()
        assert box
        assert (box["width"], box["height"]) == tuple(await page.evaluate("[innerWidth, innerHeight]"))
        await page.mouse.move(300, 300)
        for controls in ("header", "footer"):
            await expect(page.locator(controls).first).to_have_css("opacity", "1")
        last = await page.locator("#finals > div").last.bounding_box()
        dock = await page.locator(".dock").bounding_box()
        assert last
        assert dock
        assert last["y"] + last["height"] < dock["y"]  # they cover no caption
        await page.keyboard.press("f")
        await happens(page, "document.fullscreenElement === null")


@WALLS
async def test_a_notice_on_a_wall_does_not_fade() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await refuse(page, 4029, "full")
        await page.keyboard.press("f")
        await expect(page.locator("footer")).to_have_css("opacity", "0")
        await page.evaluate("document.getElementById('start').click()")  # a click that is no movement
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.locator("footer")).to_have_css("opacity", "1")
        await page.wait_for_timeout(3500)  # longer than controls stay; nothing must happen
        await expect(page.locator("footer")).to_have_css("opacity", "1")


LONG = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch" * 3


@pytest.mark.parametrize(  # MiniBrowser's window is never narrower than 447 px
    ("engine", "width"),
    [("chromium", 320), ("chromium", 360), ("chromium", 768), ("firefox", 320), ("webkit", 450)],
    indirect=["engine"],
)
async def test_nothing_scrolls_sideways_on_a_narrow_screen(width: int) -> None:
    inside = """[...document.querySelectorAll("body *")].filter((it) => {
      const { left, right, width } = it.getBoundingClientRect();
      const isHidden = it.closest("[hidden], h1 span, option, template") || !it.checkVisibility();
      return width && !isHidden && (left < -1 || right > innerWidth + 1);
    }).map((it) => it.outerHTML.slice(0, 80))"""

    async def fits(page: Page) -> None:
        assert await page.evaluate("document.scrollingElement.scrollWidth") <= width
        assert await page.evaluate("document.querySelector('#captions').scrollWidth") <= width
        assert await page.evaluate(inside) == []

    size = {"width": width, "height": 568}
    async with service(talk([*LINES, LONG])) as server, opened(server.url, viewport=size) as page:
        await fits(page)
        await start(page)
        await until(page, 4)
        await fits(page)
        for panel in ("save", "text"):
            await page.locator(f"#open-{panel}").click()
            await expect(page.locator(f"#{panel}")).to_be_visible()
            await fits(page)
            await page.keyboard.press("Escape")
        await page.locator("#open-history").click()
        await page.locator("summary").click()
        await fits(page)
        await page.get_by_role("button", name="Rename").click()
        await fits(page)
        await page.get_by_role("button", name="Close").click()
        await page.keyboard.press("?")
        await fits(page)
        await page.keyboard.press("Escape")
        for _ in range(8):
            await page.keyboard.press("+")
        await fits(page)
        await page.locator("#start").click()
        await state(page, "ended")
        await refuse(page, 4001, LONG[:100])
        await page.locator("#start").click()
        await expect(page.get_by_label("API key", exact=True)).to_be_visible()
        await fits(page)


@every_engine
async def test_font_theme_and_contrast_are_chosen_and_remembered() -> None:
    async with service(talk(LINES)) as server, opened(server.url, color_scheme="light") as page:

        async def look() -> list[str]:
            looks = await page.evaluate("""[
              getComputedStyle(document.body).backgroundColor,
              getComputedStyle(document.body).color,
              getComputedStyle(document.querySelector("#captions")).fontFamily,
            ]""")
            return list(looks)

        paper, ink, family = await look()
        await page.keyboard.press("t")
        await page.get_by_text("Dark", exact=True).click()
        assert (await look())[0] == "rgb(20, 22, 26)"
        await page.get_by_text("High", exact=True).click()
        assert (await look())[:2] == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        await page.get_by_text("Serif", exact=True).click()
        changed = await look()
        assert "Georgia" in changed[2]
        await page.reload()
        assert await look() == changed
        await page.keyboard.press("t")
        for usual in ("System", "Normal", "Sans"):
            await page.get_by_text(usual, exact=True).click()
        await page.reload()
        assert await look() == [paper, ink, family]


@every_engine
async def test_space_starts_and_stops_wherever_the_focus_is() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await page.get_by_role("button", name="Text and colors").click()
        await page.get_by_role("button", name="Larger text").click()
        await start(page)
        await expect(page.locator("#size")).to_have_text("125 %")
        for id_ in ("open-save", "full-screen", "source", "captions", "latest"):
            await page.locator(f"#{id_}").focus()
            before = await page.locator("html").get_attribute("data-state")
            await page.keyboard.press("Space")
            await state(page, "ended" if before == "live" else "live")
        assert await page.evaluate("document.fullscreenElement === null")


@every_engine
async def test_a_control_that_was_reached_by_tab_is_operated_by_space() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Space")
        await expect(page.locator("#save")).to_be_visible()
        await state(page, "ready")


@every_engine
async def test_the_shortcuts_are_shown_on_a_question_mark_and_can_be_turned_off() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        await page.get_by_label("Use shortcuts of one letter").click()
        await page.keyboard.press("Escape")
        await page.keyboard.press("h")
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await start(page)  # Space is no letter
        await page.reload()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_have_count(0)


@every_engine
async def test_a_letter_that_is_typed_into_a_field_is_no_shortcut() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await refuse(page, 4001, "send a key")
        await page.keyboard.press("Space")
        await expect(page.get_by_label("API key", exact=True)).to_be_focused()
        await page.keyboard.type("f h?n s")
        await expect(page.get_by_label("API key", exact=True)).to_have_value("f h?n s")
        await expect(page.get_by_role("dialog")).to_have_count(0)


@every_engine
async def test_a_file_shows_its_name_and_progress_and_can_be_paused_and_moved(tmp_path: Path) -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await page.locator("#file").set_input_files(speech(tmp_path, 9))
        await state(page, "live")
        await expect(page.locator("#file-name")).to_have_text("speech.wav")
        await expect(page.locator("#position")).to_have_text("0:01 / 0:09")
        await page.get_by_role("button", name="Pause the file").click()
        await state(page, "paused")
        at = await page.locator("#seek").input_value()
        elapsed = await page.locator("#elapsed").inner_text()
        await page.wait_for_timeout(2500)  # a paused file must not go on: there is nothing else to wait for
        assert await page.locator("#seek").input_value() == at
        assert int(elapsed[-1]) + 1 >= int((await page.locator("#elapsed").inner_text())[-1])
        await page.keyboard.press("p")
        await state(page, "live")
        await page.keyboard.press("ArrowRight")
        await expect(page.locator("#position")).to_have_text("0:07 / 0:09")
        await page.locator("#seek").fill("1")
        await expect(page.locator("#position")).to_have_text("0:01 / 0:09")
        await page.locator("#seek").fill("8.5")
        await state(page, "ended")
        await expect(page.locator("#player")).to_be_hidden()
        assert await captions(page) == LINES


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast of two colors, by WCAG."""

    def luminance(color: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


COLORS = """it => [getComputedStyle(it).color, getComputedStyle(it).backgroundColor]
  .map((color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_start_button_keeps_its_contrast_under_the_pointer(scheme: str) -> None:
    async with service(talk(LINES)) as server, opened(server.url, color_scheme=scheme) as page:
        button = page.locator("#start")
        for name in ("ready", "live"):
            if name == "live":
                await start(page)
            for hover in (False, True):
                if hover:
                    await button.hover()
                else:
                    await page.mouse.move(5, 300)
                ink, ground = await button.evaluate(COLORS)
                assert contrast(ink, ground) > 4.5
