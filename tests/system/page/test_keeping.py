"""Nothing is lost: captions and audio survive a reload, a crash, a closed tab and a service that is away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import (
    ALLOWED,
    FAKE,
    address,
    crash,
    every_engine,
    expect,
    happens,
    opened,
    recorded,
    state,
    until,
)
from tests.helpers.counted_speech import MICROPHONE, speller, spoken, words
from tests.helpers.cutting import cut_wire
from tests.helpers.lines import LINES, talk
from tests.helpers.service import drop_streams, service

if TYPE_CHECKING:
    from playwright.async_api import Page, Route


async def start(page: Page) -> None:
    await page.keyboard.press("Space")
    await state(page, "live")


async def every_word(page: Page, count: int) -> None:
    """Wait until the numbers 1 to `count` are on the page, each once, in order, and nothing waits any more.

    One more may be there: the microphone's own count may be lost with its tab, the moment after it said a word.
    """
    await happens(page, f"document.querySelector('#finals').textContent.includes('w{count}')")
    said = await words(page)
    assert said in (list(range(1, count + 1)), list(range(1, count + 2)))
    await happens(page, STORED_STREAMS.format(comparison="=== 0"))


STORED_STREAMS = """new Promise((resolve) => {{
  indexedDB.open("speechbridge").onsuccess = ({{ target: {{ result }} }}) => {{
    const counting = result.transaction("streams").objectStore("streams").count();
    counting.onsuccess = () => {{ result.close(); resolve(counting.result {comparison}); }};
  }};
}})"""


async def test_captions_survive_a_reload_and_the_next_recording_continues_them() -> None:
    asked = []
    async with service(talk(LINES)) as server, opened(server.url) as page:
        page.on("websocket", lambda socket: asked.append(socket.url))
        await start(page)
        await until(page, 3)
        await recorded(page, 1)
        await page.keyboard.press("Space")
        await state(page, "ended")
        await page.reload()
        assert await until(page, 3) == LINES
        await expect(page.locator("#elapsed")).not_to_have_text("0:00")
        await start(page)
        assert await until(page, 6) == LINES * 2
    assert not re.search(r"start_ts=0(\.0)?&", asked[-1])


@every_engine
async def test_a_reload_in_the_middle_of_speech_loses_and_doubles_no_word() -> None:
    async with service(speller) as server, opened(server.url, before=MICROPHONE) as page:
        for seconds in (1, 2, 3):
            await start(page)
            await happens(page, f"Number(localStorage.getItem('spoken')) > {13 * seconds}")
            await page.reload()
            await every_word(page, await spoken(page))
        await start(page)
        await page.keyboard.press("Space")
        await state(page, "ended")
        await every_word(page, await spoken(page))


# A slow disk: each transaction takes half a second, and is aborted if the page is left meanwhile.
SLOW = """
const transaction = IDBDatabase.prototype.transaction;
IDBDatabase.prototype.transaction = function (names, mode, options) {
  const made = transaction.call(this, names, mode, options);
  if (mode !== "readwrite" || !window.isSlow) return made;
  const end = performance.now() + 500;
  const busy = () => { if (performance.now() < end) made.objectStore("streams").count().onsuccess = busy; };
  busy();
  addEventListener("pagehide", () => { try { made.abort(); } catch {} });
  return made;
};
"""


@every_engine
async def test_a_reload_loses_no_word_that_a_slow_disk_has_not_stored() -> None:
    async with service(speller) as server, opened(server.url, before=MICROPHONE + SLOW) as page:
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 12")
        await page.evaluate("window.isSlow = true")
        await happens(page, "Number(localStorage.getItem('spoken')) > 25")
        await page.reload()
        await every_word(page, await spoken(page))
        kept = "Object.keys(localStorage).filter((name) => name.startsWith('speechbridge.unstored'))"
        assert await page.evaluate(kept) == []


@pytest.mark.parametrize("engine", ["chromium", "firefox"], indirect=True)  # WebKit's driver ends with the process
async def test_a_crashed_tab_loses_no_word() -> None:
    async with service(speller) as server, opened(server.url, before=MICROPHONE) as page:
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 25")
        other = await crash(page)
        await other.goto(server.url.replace("ws", "http", 1))
        # The number of the last frame is written after the page was given that frame, so it may be missing.
        await every_word(other, max(await spoken(other), 25))


@every_engine
async def test_a_closed_tab_loses_no_word() -> None:
    async with service(speller) as server, opened(server.url, before=MICROPHONE) as page:
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 25")
        other = await page.context.new_page()  # before: without a tab some browsers end
        await page.close()
        await other.goto(server.url.replace("ws", "http", 1))
        await every_word(other, await spoken(other))


@every_engine
async def test_a_service_that_dies_and_a_reload_meanwhile_lose_no_word() -> None:
    life: int | None = None
    async with (
        service(speller) as first,
        service(speller) as second,
        cut_wire(first.url, lambda: life) as wire,
        opened(wire.url, before=MICROPHONE) as page,
    ):
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 12")
        life = 0  # nothing gets through any more; what is under way is dropped
        wire.target = second.url
        drop_streams(first)
        first.stop()
        await state(page, "reconnecting")
        await happens(page, "Number(localStorage.getItem('spoken')) > 30")
        life = None
        await page.reload()
        await every_word(page, await spoken(page))


@pytest.mark.parametrize("engine", ["chromium", "firefox"], indirect=True)  # WebKit's driver acts only on one tab
async def test_another_tab_leaves_a_running_recording_alone() -> None:
    async with service(speller) as server, opened(server.url, before=MICROPHONE) as page:
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 12")
        other = await page.context.new_page()
        await other.goto(await address(page))
        await state(other, "ready")
        assert await words(other) == []
        await page.bring_to_front()
        await happens(page, "Number(localStorage.getItem('spoken')) > 25")
        await page.keyboard.press("Space")
        await state(page, "ended")
        await every_word(page, await spoken(page))
        await other.get_by_role("button", name="Transcripts").click()
        await other.locator("summary").click()
        await other.get_by_role("button", name="Delete", exact=True).click()
        await expect(other.get_by_text("Not deleted: it is open in another tab")).to_be_visible()


@every_engine
async def test_audio_of_a_stopped_recording_is_transcribed_when_the_service_is_back() -> None:
    life: int | None = None
    async with (
        service(speller) as server,
        cut_wire(server.url, lambda: life) as wire,
        opened(wire.url, before=MICROPHONE) as page,
    ):
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 12")
        life = 0
        drop_streams(server)
        await state(page, "reconnecting")
        await happens(page, "Number(localStorage.getItem('spoken')) > 25")
        await page.keyboard.press("Space")
        await state(page, "waiting")
        await expect(page.get_by_role("status").first).to_have_text("Waiting for the service")
        await page.wait_for_timeout(1100)  # a second click within a second is taken for a double click
        await page.get_by_role("button", name="Stop waiting").click()
        await state(page, "stopped")
        notice = page.get_by_role("alert")
        await expect(notice.get_by_role("heading")).to_have_text(
            re.compile(r"^\d\.\d s of audio are not transcribed yet$")
        )
        life = None
        await notice.get_by_role("button", name="Transcribe now").click()
        await every_word(page, await spoken(page))


@every_engine
async def test_a_page_that_may_not_store_anything_still_captions() -> None:
    blocked = """
    Object.defineProperty(window, "indexedDB", { get() { throw new DOMException("blocked", "SecurityError"); } });
    """
    async with service(speller) as server, opened(server.url, before=MICROPHONE + blocked) as page:
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 20")
        await page.keyboard.press("Space")
        await state(page, "ended")
        assert await words(page) == list(range(1, await spoken(page) + 1))
        await page.get_by_role("button", name="Transcripts").click()
        await expect(page.get_by_text("This browser does not allow the page to store transcripts.")).to_be_visible()


@every_engine
async def test_a_full_device_is_reported_and_captions_go_on() -> None:
    full = """
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (...given) {
      const request = put.apply(this, given);
      if (this.name === "finals") this.transaction.abort();
      return request;
    };
    """
    async with service(speller) as server, opened(server.url, before=MICROPHONE + full) as page:
        await start(page)
        await expect(page.get_by_role("alert").get_by_role("heading")).to_have_text("The captions cannot be stored")
        await happens(page, "document.querySelectorAll('#finals > div').length >= 3")


async def test_a_recording_that_begins_while_earlier_audio_is_transcribed_stands_below_it() -> None:
    # Chromium takes a page that the test delivers for one from the internet.
    flags = (ALLOWED, FAKE, "--disable-features=LocalNetworkAccessChecks")
    life: int | None = None
    async with (
        service(speller) as server,
        cut_wire(server.url, lambda: life) as wire,
        opened(wire.url, before=MICROPHONE, flags=flags) as page,
    ):
        await start(page)
        await happens(page, "Number(localStorage.getItem('spoken')) > 12")
        life = 0
        drop_streams(server)
        await happens(page, "Number(localStorage.getItem('spoken')) > 40")

        async def directly(route: Route) -> None:  # the page itself comes through
            url = route.request.url.replace(wire.url.removeprefix("ws:"), server.url.removeprefix("ws:"))
            await route.fulfill(response=await route.fetch(url=url))

        await page.route("**/*", directly)
        await page.reload()
        await state(page, "retrying")
        await page.keyboard.press("Space")
        await state(page, "reconnecting")
        life = None
        await state(page, "live")
        await page.keyboard.press("Space")
        await state(page, "ended")
        await every_word(page, await spoken(page))
        await page.reload()
        await every_word(page, await spoken(page))
