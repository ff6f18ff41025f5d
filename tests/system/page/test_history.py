"""The transcripts on this device: listed, searched, opened, renamed, exported, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.protocol.captions import to_srt
from tests.helpers.browser import captions, every_engine, expect, opened, state, until
from tests.helpers.lines import LINES, final, talk
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.async_api import Locator, Page

GARDEN = ["The garden opens at nine.", "Bring water, the café is closed."]


def one_after_the_other(*talks: list[str]) -> Callable[[Iterator[bytes]], Iterator[str]]:
    """Make an SDK that says other lines in each stream."""
    waiting = list(talks)

    def start(audio: Iterator[bytes]) -> Iterator[str]:
        return talk(waiting.pop(0))(audio)

    return start


async def record(page: Page, lines: int) -> None:
    await page.keyboard.press("Space")
    await state(page, "live")
    await until(page, lines)
    await page.keyboard.press("Space")
    await state(page, "ended")


async def two_transcripts(page: Page) -> Locator:
    """Record LINES, then GARDEN. Return the items of the open list."""
    await record(page, len(LINES))
    await page.keyboard.press("n")
    assert await until(page, 0) == []
    await record(page, len(GARDEN))
    await page.keyboard.press("h")
    items = page.locator("#transcripts > li")
    await expect(items).to_have_count(2)
    return items


@every_engine
async def test_transcripts_are_listed_and_searched_and_the_privacy_is_told_in_a_line() -> None:
    async with service(one_after_the_other(LINES, GARDEN)) as server, opened(server.url) as page:
        items = await two_transcripts(page)
        await expect(page.get_by_text("Stored only in this browser, until you delete them.")).to_be_visible()
        await expect(items.nth(0)).to_contain_text(GARDEN[0])
        await expect(items.nth(0)).to_contain_text("shown now")
        await expect(items.nth(1)).to_contain_text(LINES[0])
        search = page.get_by_label("Search transcripts")
        await search.fill("CAFE")
        await expect(items).to_have_count(1)
        await expect(items.locator("mark")).to_have_text("café")
        await search.fill("town")
        await expect(items).to_have_count(1)
        await expect(items).to_contain_text(LINES[0])
        await search.fill("bicycle")
        await expect(page.get_by_text("No transcript contains “bicycle”.")).to_be_visible()


@every_engine
async def test_a_past_transcript_is_opened_and_continued() -> None:
    async with service(one_after_the_other(LINES, GARDEN, GARDEN)) as server, opened(server.url) as page:
        items = await two_transcripts(page)
        await items.nth(1).locator(".open").click()
        assert await until(page, 3) == LINES
        await record(page, 5)
        assert await captions(page) == LINES + GARDEN
        await page.keyboard.press("h")
        await expect(items.nth(0)).to_contain_text(LINES[0])
        await page.reload()
        assert await until(page, 5) == LINES + GARDEN


async def test_a_transcript_is_renamed_and_exported_under_its_name() -> None:
    async with service(one_after_the_other(LINES, GARDEN)) as server, opened(server.url) as page:
        items = await two_transcripts(page)
        await items.nth(1).locator("summary").click()
        await items.nth(1).get_by_role("button", name="Rename").click()
        await page.keyboard.type("Town hall: part 1/2")
        await page.keyboard.press("Enter")
        await expect(items.locator("strong").nth(1)).to_have_text("Town hall: part 1/2")
        await items.nth(1).locator("summary").click()
        async with page.expect_download() as download:
            await items.nth(1).get_by_role("button", name="SRT").click()
        assert (await download.value).suggested_filename == "Town hall  part 1 2.srt"
        assert (await (await download.value).path()).read_text() == to_srt([final(n, x) for n, x in enumerate(LINES)])
        await page.reload()
        await page.keyboard.press("h")
        await expect(items.locator("strong").nth(1)).to_have_text("Town hall: part 1/2")


@every_engine
async def test_escape_leaves_the_title_as_it_was_and_the_list_open() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await record(page, 3)
        await page.keyboard.press("h")
        await page.locator("summary").click()
        await page.get_by_role("button", name="Rename").click()
        await page.keyboard.type("Something else")
        await page.keyboard.press("Escape")
        await expect(page.locator("#transcripts strong")).to_have_text(LINES[0])
        await expect(page.locator("#history")).to_be_visible()


@every_engine
async def test_a_deleted_transcript_can_be_brought_back_until_the_list_is_closed() -> None:
    async with service(one_after_the_other(LINES, GARDEN)) as server, opened(server.url) as page:
        items = await two_transcripts(page)
        await items.nth(1).locator("summary").click()
        await items.nth(1).get_by_role("button", name="Delete").click()
        await expect(items).to_have_count(1)
        await page.get_by_role("button", name="Undo").click()
        await expect(items).to_have_count(2)
        await items.nth(1).locator(".open").click()
        assert await until(page, 3) == LINES
        await page.keyboard.press("h")
        await items.nth(0).locator("summary").click()
        await items.nth(0).get_by_role("button", name="Delete").click()
        await expect(items).to_have_count(1)
        await page.get_by_role("button", name="Close").click()
        await page.reload()
        await page.keyboard.press("h")
        await expect(items).to_have_count(1)


@every_engine
async def test_all_transcripts_are_deleted_after_a_second_click() -> None:
    async with service(one_after_the_other(LINES, GARDEN)) as server, opened(server.url) as page:
        items = await two_transcripts(page)
        await page.get_by_role("button", name="Delete all").click()
        await expect(items).to_have_count(2)
        await page.get_by_role("button", name="Click again to delete 2").click()
        await expect(items).to_have_count(0)
        await expect(page.get_by_text("Transcripts appear here as soon as something was said.")).to_be_visible()
        await page.reload()
        assert await until(page, 0) == []


@every_engine
async def test_a_new_transcript_during_a_recording_takes_what_comes_after_it() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await page.keyboard.press("Space")
        await until(page, 3)
        await page.keyboard.press("n")
        assert await until(page, 0) == []
        await page.keyboard.press("Space")
        await state(page, "ended")
        await record(page, 3)
        await page.keyboard.press("h")
        await expect(page.locator("#transcripts > li")).to_have_count(2)


@every_engine
async def test_a_recording_that_begins_right_after_a_new_transcript_belongs_to_it() -> None:
    async with service(one_after_the_other(LINES, GARDEN)) as server, opened(server.url) as page:
        await record(page, len(LINES))
        await page.evaluate("""["n", " "].forEach((key) => document.body.dispatchEvent(
          new KeyboardEvent("keydown", { key, code: key === " " ? "Space" : "", bubbles: true, cancelable: true })))""")
        await state(page, "live")
        assert await until(page, len(GARDEN)) == GARDEN
        await page.keyboard.press("Space")
        await state(page, "ended")
        await expect(page.get_by_role("alert")).to_be_hidden()
        await page.reload()
        assert await until(page, len(GARDEN)) == GARDEN
