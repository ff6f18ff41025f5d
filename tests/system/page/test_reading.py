"""Reading, saving, and using the page with the keyboard or a screen reader."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from speechbridge.protocol.captions import to_srt, to_text
from tests.helpers.browser import every_engine, expect, happens, opened, recorded, start, state, until
from tests.helpers.lines import LINES, final, talk
from tests.helpers.service import service

if TYPE_CHECKING:
    from playwright.async_api import Page


async def saved(page: Page, format_: str) -> str:
    await page.get_by_role("button", name="Save").click()
    async with page.expect_download() as download:
        await page.get_by_role("button", name=format_.upper()).click()
    assert (await download.value).suggested_filename == f"captions.{format_}"
    return (await (await download.value).path()).read_text()


CUE = re.compile(r"(\d+)\n\d\d:\d\d:\d\d,\d\d\d --> \d\d:\d\d:\d\d,\d\d\d\n(.{1,42}(?:\n.{1,42})?)\n")

# The browser's own WebVTT parser.
PARSED = """async (text) => {
  const video = document.createElement("video"), track = document.createElement("track");
  track.src = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
  track.default = true;
  video.append(track);
  await new Promise((done, failed) => { track.onload = done; track.onerror = failed; track.track.mode = "hidden"; });
  return [...track.track.cues].map((cue) => [cue.startTime, cue.endTime, cue.getCueAsHTML().textContent]);
}"""


async def test_captions_are_copied_and_saved_in_standard_formats() -> None:
    finals = [final(number, line) for number, line in enumerate(LINES)]
    async with (
        service(talk(LINES)) as server,
        opened(server.url, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        await start(page)
        assert await until(page, 3) == LINES
        assert await saved(page, "txt") == to_text(finals)
        srt = await saved(page, "srt")
        assert srt == to_srt(finals)
        cues = CUE.findall(srt)
        assert [int(number) for number, _ in cues] == list(range(1, len(cues) + 1))
        assert " ".join(lines.replace("\n", " ") for _, lines in cues) == " ".join(LINES)
        parsed = await page.evaluate(PARSED, await saved(page, "vtt"))
        assert " ".join(text.replace("\n", " ") for _, _, text in parsed) == " ".join(LINES)
        assert all(start < end for start, end, _ in parsed)
        spoken = [e for m in json.loads(await saved(page, "json"))["monologues"] for e in m["elements"]]
        assert [e["value"] for e in spoken if e["type"] == "text"] == " ".join(LINES).split()
        assert all(e["end_ts"] > e["ts"] for e in spoken if e["type"] == "text")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Copy").click()
        await expect(page.locator("#save-text")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == to_text(finals)
        await page.get_by_role("button", name="Transcripts").click()
        await page.get_by_role("button", name="New transcript").click()
        assert await until(page, 0) == []


async def test_captions_after_a_stop_continue_below_with_continuing_timestamps() -> None:
    asked = []
    async with service(talk(LINES)) as server, opened(server.url) as page:
        page.on("websocket", lambda socket: asked.append(parse_qs(socket.url)["start_ts"][0]))
        await start(page)
        await recorded(page, 1)
        await page.keyboard.press("Space")
        await state(page, "ended")
        await start(page)
        assert await until(page, 6) == LINES * 2
    first, second = map(float, asked)
    assert first == 0
    assert 1 <= second < 5


@every_engine
async def test_scrolling_up_stops_following_until_the_reader_is_back_at_the_end() -> None:
    many = [f"Line {number} of a long evening." for number in range(60)]
    async with service(talk(many)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 60)
        box = page.locator("#captions")
        at_end = "box => box.scrollHeight - box.scrollTop - box.clientHeight < 80"
        await happens(page, f"({at_end})(document.getElementById('captions'))")
        await box.hover()
        await page.mouse.wheel(0, -600)
        latest = page.get_by_role("button", name="Latest")
        await expect(latest).to_be_visible()
        before = await box.evaluate("box => box.scrollTop")
        await page.keyboard.press("Space")
        await state(page, "ended")
        await page.keyboard.press("Space")
        await until(page, 120)
        assert abs(await box.evaluate("box => box.scrollTop") - before) < 5
        await latest.click()
        await happens(page, f"({at_end})(document.getElementById('captions'))")
        await expect(latest).to_be_hidden()


@every_engine
async def test_the_word_under_the_pointer_shows_its_time_and_confidence() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:
        await start(page)
        await until(page, 3)
        box = await page.evaluate("""() => {
          const range = document.createRange(), text = document.querySelectorAll("#finals p")[1].firstChild;
          range.setStart(text, text.data.indexOf("bridge"));
          range.setEnd(text, text.data.indexOf("bridge") + 6);
          const { x, y, width, height } = range.getBoundingClientRect();
          return [x + width / 2, y + height / 2];
        }""")
        await page.mouse.move(*box)
        await expect(page.get_by_role("tooltip")).to_have_text("6.50 – 6.75 s · 90 % confidence")  # noqa: RUF001 # an en dash
        await page.mouse.move(5, 5)
        await expect(page.locator("#word")).to_be_hidden()


@every_engine
async def test_the_text_size_can_be_changed_and_is_remembered() -> None:
    async with service(talk(LINES)) as server, opened(server.url) as page:

        async def size() -> float:
            return float(await page.locator("#captions").evaluate("box => parseFloat(getComputedStyle(box).fontSize)"))

        usual = await size()
        await page.get_by_role("button", name="Text and colors").click()
        for _ in range(9):
            await page.get_by_role("button", name="Larger text").click()
        assert await size() == pytest.approx(3 * usual, rel=0.01)
        await page.reload()
        assert await size() == pytest.approx(3 * usual, rel=0.01)
        await page.get_by_role("button", name="Text and colors").click()
        for _ in range(20):
            await page.get_by_role("button", name="Smaller text").click()
        assert await size() == pytest.approx(0.75 * usual, rel=0.01)


@every_engine
async def test_everything_works_with_the_keyboard() -> None:
    async with service(talk(LINES, "and so on")) as server, opened(server.url) as page:
        reached = []
        for _ in range(9):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.id"))
            visible = "getComputedStyle(document.activeElement).outlineStyle != 'none'"
            around = "getComputedStyle(document.querySelector('main'), '::after').borderStyle == 'solid'"
            assert await page.evaluate(f"{visible} || {around}"), f"{reached[-1]} shows no focus"
        tools = ["open-history", "open-save", "open-share", "open-text", "full-screen", "open-help"]
        assert reached == [*tools, "captions", "start", "source"]
        await page.locator("#source").press("Shift+Tab")
        await page.keyboard.press("Enter")
        await state(page, "live")
        await until(page, 3)
        await expect(page.locator("#partial")).to_have_text("and so on")
        await page.keyboard.press("Space")  # on the focused button
        await state(page, "ended")
        await page.locator("#open-save").press("Enter")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.dataset.save") == "copy"
        await page.keyboard.press("Escape")
        await expect(page.locator("#save")).to_be_hidden()


@every_engine
async def test_screen_readers_announce_finals_and_states_but_not_partials() -> None:
    async with service(talk(LINES, "and so on")) as server, opened(server.url) as page:
        await start(page)
        await until(page, 3)
        log = page.get_by_role("log", name="Transcript")
        await expect(log).to_have_attribute("aria-live", "polite")
        await expect(log).to_contain_text(LINES[0])
        await expect(log).not_to_contain_text("and so on")
        await expect(page.get_by_role("status")).to_have_text("Live")
        assert not await page.locator("#partial").evaluate("it => it.closest('[aria-live=polite], [role=log]')")


@every_engine
async def test_an_overlay_is_a_caption_on_a_transparent_page_and_fades_in_silence() -> None:
    many = [f"Line {number} of a long evening." for number in range(50)]
    async with service(talk(many, "and so on")) as server, opened(f"{server.url}/?view=overlay") as page:
        await state(page, "live")
        await expect(page.locator("#partial")).to_have_text("and so on")
        assert await page.locator("#finals > div").count() == 3  # older ones are removed
        assert (
            await page.evaluate("""["html", "body"].map((it) =>
          getComputedStyle(document.querySelector(it)).backgroundColor)""")
            == ["rgba(0, 0, 0, 0)"] * 2
        )
        for gone in (".tools", ".dock", "#empty"):
            await expect(page.locator(gone)).to_be_hidden()
        await expect(page.locator("#captions")).to_have_css("opacity", "1")
        await expect(page.locator("#captions")).to_have_css("opacity", "0")


WAKES = """
window.locks = [];
navigator.wakeLock.request = async (what) => {
  const lock = { what, released: false, release: async () => { lock.released = true; } };
  locks.push(lock);
  return lock;
};
"""


async def test_the_screen_stays_awake_while_it_is_live() -> None:
    async with service(talk(LINES)) as server, opened(server.url, before=WAKES) as page:
        await start(page)
        await happens(page, "locks.length === 1 && locks[0].what === 'screen' && !locks[0].released")
        await page.evaluate("locks[0].release()")  # as browsers do when the tab is hidden
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await happens(page, "locks.length === 2")
        await page.keyboard.press("Space")
        await state(page, "ended")
        await happens(page, "locks.every(({ released }) => released)")
