"""The page can be installed, and opens without a network, up to what needs the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers.browser import every_engine, expect, happens, opened, state, until
from tests.helpers.lines import LINES, talk
from tests.helpers.service import service

if TYPE_CHECKING:
    from playwright.async_api import Page

CONTROLLED = "navigator.serviceWorker.controller !== null"


async def installed(page: Page) -> None:
    await happens(page, "navigator.serviceWorker.ready.then(() => true)")
    await page.reload()
    await happens(page, CONTROLLED)


async def test_a_browser_finds_nothing_that_keeps_it_from_installing_the_page() -> None:
    async with service() as server, opened(server.url, service_workers="allow") as page:
        await installed(page)
        session = await page.context.new_cdp_session(page)
        found = (await session.send("Page.getInstallabilityErrors"))["installabilityErrors"]
        assert [error["errorId"] for error in found] == ["in-incognito"]  # as every page of a test is
        manifest = await session.send("Page.getAppManifest")
        assert manifest["errors"] == []
        assert manifest["url"].endswith("/static/manifest.webmanifest")


async def test_without_a_network_the_page_opens_with_its_transcripts_and_says_what_is_away() -> None:
    async with service(talk(LINES)) as server, opened(server.url, service_workers="allow") as page:
        await installed(page)
        await page.keyboard.press("Space")
        await until(page, 3)
        await page.keyboard.press("Space")
        await state(page, "ended")
        await page.context.set_offline(offline=True)
        await page.reload()
        assert await until(page, 3) == LINES
        await page.keyboard.press("Space")
        await state(page, "reconnecting")
        notice = page.get_by_role("alert")
        await expect(notice.get_by_role("heading")).to_have_text("The service cannot be reached")
        await page.context.set_offline(offline=False)
        await state(page, "live")
        await expect(notice).to_be_hidden()


@every_engine
async def test_a_new_version_is_shown_at_the_next_visit() -> None:
    async with service() as server, opened(server.url, service_workers="allow") as page:
        await installed(page)
        await page.evaluate("""caches.open("speechbridge-page").then((cache) =>
          cache.put(new URL("./", location.href), new Response("an old page")))""")
        await page.reload()
        await expect(page.get_by_role("button", name="Start")).to_be_visible()
